"""Prints the tour: steps, results, tables. Plain text when the output is no terminal."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from discord_sim import InteractionResult, SimChannel, SimGuild, SimUser
from sandbox_core.subjects import DEFAULT_NAMES

from .._streams import can_draw
from . import _discord_look
from .readback import Comparison

_WIDTH = 100


class StepFailed(Exception):
    """A step of the tour had a wrong result; the text is the sentence to show."""


class Screen:
    """The tour's output. `results` counts the successful checks."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal or self.console.width > _WIDTH:
            self.console.width = _WIDTH
        self.results = 0
        self.finished = False
        """Whether every step was right."""
        self._step = 0
        self._title = ""
        self._answers = 0

    def opening(self) -> None:
        """Print what the tour will show."""
        self.console.print()
        self.console.print(Text("Discord Server Sandboxes", style="bold #5865f2"))
        self.console.print(
            Text(
                "One sandbox's life, on real servers and with the real bot. Only Discord is played, by a\n"
                "simulator that speaks its REST API and gateway on this machine.",
                style="dim",
            )
        )

    def step(self, title: str) -> None:
        """Print the title of a step."""
        self._step += 1
        self._title = title
        self._answers = 0
        heading = Text.assemble((f"{self._step} ", "bold #5865f2"), (title, "bold"))
        self.console.print()
        self.console.print(Rule(heading, align="left", style="#4e5058"))

    def busy(self, doing: str) -> AbstractContextManager[object]:
        """Show a spinner while the body works, if it can turn there."""
        if not can_draw(sys.stdout):
            return nullcontext()
        return self.console.status(Text(f"{doing}…", style="dim"), spinner="dots")

    def note(self, text: str) -> None:
        """Print a remark."""
        self._show(Text(text, style="dim"))

    def right(self, text: str) -> None:
        """Print a successful check."""
        self.results += 1
        self.console.print(Text.assemble(("  ✓ ", "bold green"), text))

    def command(
        self, who: SimUser, where: SimChannel, command: str, options: Mapping[str, str] | None = None
    ) -> None:
        """Print a typed command."""
        if self._answers:
            self.console.print()
        self.console.print(_discord_look.typed(who, where, command, options or {}))

    def shell(self, command: str) -> None:
        """Print a command in a developer's shell."""
        self._show(Text.assemble(("$ ", "bold cyan"), (command, "bold")))

    def greetings(self, guilds: Sequence[SimGuild], answers: Mapping[int, Sequence[str]]) -> None:
        """Print who answered where."""
        table = Table(
            box=box.SIMPLE, show_edge=False, pad_edge=False, border_style="#4e5058", header_style="bold"
        )
        table.add_column("“hello” in", min_width=20)
        table.add_column("is answered")
        usual = Counter(text for texts in answers.values() for text in texts).most_common(1)[0][0]
        for guild in guilds:
            texts = answers[guild.id]
            table.add_row(guild.name, " / ".join(texts), style="" if texts == [usual] else "bold green")
        self._show(table)
        self.console.print()

    def click(self, who: SimUser, label: str) -> None:
        """Print a pressed button."""
        self.console.print(_discord_look.clicked(who, label))

    def answer(
        self, result: InteractionResult, seconds: float, bot_name: str, users: Mapping[int, SimUser]
    ) -> None:
        """Print the bot's answer, complete `seconds` after the command."""
        self._answers += 1
        self._show(_discord_look.answer(result, seconds, bot_name, users))

    def servers(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Print the servers: name, version, address."""
        table = Table(box=None, show_header=False, padding=(0, 3, 0, 0))
        for name, version, address in rows:
            table.add_row(Text(name, style="bold"), version, Text(address, style="dim"))
        self._show(table)

    def traffic(
        self,
        guilds: Sequence[SimGuild],
        sent: Mapping[int, int],
        production: Mapping[int, int],
        sandbox: Mapping[int, int],
        subjects: str,
    ) -> None:
        """Print a table of events per guild: sent by Discord, and stored on both sides.

        `subjects` are the sandbox's.
        """
        table = Table(
            box=box.SIMPLE, show_edge=False, show_footer=True, pad_edge=False, border_style="#4e5058"
        )
        table.add_column("server", "all", min_width=20)
        for heading, counts in (
            ("sent by Discord", sent),
            (DEFAULT_NAMES.production_events, production),
            (subjects, sandbox),
        ):
            table.add_column(heading, f"{sum(counts.values()):,}", justify="right")
        for guild in guilds:
            numbers = [counts.get(guild.id, 0) for counts in (sent, production, sandbox)]
            style = "bold green" if numbers[2] else ""
            table.add_row(guild.name, *(f"{number:,}" if number else "·" for number in numbers), style=style)
        self._show(table)
        self.console.print()

    def comparison(self, result: Comparison, bytes_read: int, others: Mapping[str, int]) -> None:
        """Print the comparison of the streams with the sent events. Raises `StepFailed`.

        `others` counts the compared events that are not in the table, by type.
        """
        if result.faults:
            found = ", ".join(f"{count} {kind}" for kind, count in result.faults.items())
            raise StepFailed(f"The streams do not hold what Discord sent: {found}.")
        self.right(
            f"{result.delivered:,} of {result.expected:,} events read back from the streams: "
            "none lost, none twice"
        )
        if others:
            named = ", ".join(f"{count:,} {event_type}" for event_type, count in sorted(others.items()))
            self.note(f"  the table's, and since the start {named}")
        self.right("each one on its side, and each server's in the order they were sent")
        self.right(f"headers as the contract has them, and {bytes_read / 1e6:.1f} MB byte for byte as sent")

    def addresses(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print the addresses of everything that stays up."""
        self.console.print()
        self.console.print(
            Rule(Text("Everything stays up until Ctrl-C", style="bold"), align="left", style="#4e5058")
        )
        for name, value in rows:
            # One line each, of any length, so that it can be copied.
            self.console.print(Text.assemble(("  ", ""), (f"{name:<15}", "bold"), value), soft_wrap=True)

    def stopped(self) -> None:
        """Print that a signal ended the tour early."""
        self.console.print(f"\nStopped at step {self._step} ({self._title}); nothing is left running.")

    def failed(self, sentence: str, log: Path) -> None:
        """Print a failed step."""
        self.console.print()
        self.console.print(
            Text.assemble(("✗ ", "bold red"), (f"Step {self._step}, {self._title}: ", "bold"), sentence)
        )
        self.console.print(Text(f"  The bot's log is in {log}", style="dim"), soft_wrap=True)

    def closing(self, seconds: float) -> None:
        """Print the end of a successful tour."""
        self.finished = True
        self.console.print()
        self.console.print(
            Text.assemble(
                ("Done. ", "bold green"),
                f"{self.results} results checked in {seconds:.0f} seconds, all right.",
            )
        )
        self.console.print(
            Text(
                "With DISCORD_TOKEN and DISCORD_DEV_GUILD_IDS set, make run connects to Discord.", style="dim"
            )
        )

    def _show(self, what: RenderableType) -> None:
        self.console.print(Padding(what, (0, 0, 0, 2), expand=False))
