"""The table of a chaos run."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .judge import Verdict

_MUST_BE_ZERO = ("lost", "doubled", "wrong side", "altered", "out of order", "strange")


def table(verdicts: dict[str, Verdict], seed: int) -> Table:
    """One line per scenario."""
    shown = Table(title=f"Seed {seed}", title_justify="left", pad_edge=False)
    shown.add_column("scenario", no_wrap=True)
    for column in (
        *("sent", "delivered", *_MUST_BE_ZERO),
        *("Discord's gaps", "unattr.", "gone", "again", "dropped", "identifies", "resumes", "s"),
    ):
        shown.add_column(column, justify="right")
    shown.add_column("commands")
    shown.add_column("")
    for name, v in verdicts.items():
        figures = (v.lost, v.doubled, v.wrong_side, v.altered, v.disordered, v.strange)
        identifies = f"{v.identifies}" if v.identifies <= v.identifies_allowed else f"[red]{v.identifies}[/]"
        shown.add_row(
            name,
            f"{v.sent:,}",
            f"{v.delivered:,}",
            *(f"[red]{figure:,}[/]" if figure else "0" for figure in figures),
            *(f"{v.gaps:,}", f"{v.unattributed:,}", f"{v.gone:,}", f"{v.repeated:,}", f"{v.dropped:,}"),
            *(identifies, str(v.resumes), f"{v.seconds:.0f}", v.commands),
            "[green]ok[/]" if v.passed else "[red]FAILED[/]",
        )
    return shown


def kills(console: Console, verdicts: dict[str, Verdict]) -> None:
    """How long killed processes and hung servers were missed."""
    for name, verdict in verdicts.items():
        for what, seconds in (
            ("from SIGKILL to RESUMED, the start of the next process included", verdict.kills.resumed),
            ("from SIGKILL until the name of a creation that it cut off was free again", verdict.kills.freed),
            ("from SIGCONT of the server until /readyz was well and an event stored", verdict.backs),
        ):
            if seconds:
                console.print(f"{name}: {', '.join(f'{each:.1f} s' for each in seconds)} {what}")


def explain(console: Console) -> None:
    """What the columns mean that must not be zero necessarily."""
    console.print(
        "Discord's gaps: events no session was there for, or of a session that Discord had ended. "
        "unattr.: guild-less events of a guild's channel that went to events.unattributed. "
        "gone: acknowledged, then removed with their sandbox or with the server's memory (SANDBOX is in "
        "memory). again: stored once more because the memory that knew of them was lost. dropped: events "
        "that sandboxes lost because their stream took none; exactly those that the bot has counted.",
        style="dim",
    )


def problems(console: Console, name: str, verdict: Verdict) -> None:
    """What went wrong, in words."""
    for line in (*verdict.problems, *verdict.examples):
        console.print(f"  {name}: {line}", style="red", markup=False, highlight=False)
