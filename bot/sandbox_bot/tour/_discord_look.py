"""Shows in a terminal what a person sees in Discord: the typed command and the bot's answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from discord_sim import InteractionResult, SimChannel, SimUser

_PROMPT = "❯ "  # noqa: RUF001 - a prompt, not a comparison
_FIELDS_IN_A_ROW = 3
_MOMENT = "%d %B %Y %H:%M"
_BUTTON_STYLES = {
    1: "white on #5865f2",
    2: "white on #4e5058",
    3: "white on #248046",
    4: "white on #da373c",
    5: "white on #4e5058",
}
_CODE = "#b5bac1 on #2b2d31"
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))

# As much of Discord's markdown as the bot's answers use.
_MARKDOWN = re.compile(
    r"\\(?P<plain>[^\w\s])"
    r"|```(?:\w*\n)?(?P<block>.*?)\n?```"
    r"|`(?P<code>[^`\n]+)`"
    r"|\*\*(?P<bold>.+?)\*\*"
    r"|<@!?(?P<user>\d+)>"
    r"|<t:(?P<moment>-?\d+)(?::(?P<form>[a-zA-Z]))?>",
    re.DOTALL,
)


def typed(who: SimUser, where: SimChannel, command: str, options: Mapping[str, str]) -> RenderableType:
    """The line that a person types."""
    place = f"{where.guild.name} " if where.guild is not None else ""
    line = Text.assemble((f"{who.name} in {place}#{where.name}  ", "dim"), (_PROMPT, "bold cyan"))
    line.append(f"/{command}", "bold")
    for name, value in options.items():
        line.append(f" {name}:", "cyan").append(value)
    return line


def clicked(who: SimUser, label: str) -> RenderableType:
    """The line for a pressed button."""
    return Text.assemble((f"{who.name} clicks  ", "dim"), (_PROMPT, "bold cyan"), (f"[{label}]", "bold"))


def answer(
    result: InteractionResult, seconds: float, bot_name: str, users: Mapping[int, SimUser]
) -> RenderableType:
    """The bot's answer as its reader sees it, `seconds` after the command."""
    reader = _Reader(users)
    shown: list[RenderableType] = []
    if result.content:
        shown.append(reader.text(result.content))
    shown.extend(_embed(embed, reader) for embed in result.embeds)
    if result.buttons:
        shown.append(_buttons(result.buttons))
    footer = "only you can see this · " if result.ephemeral else ""
    return Panel(
        Group(*shown),
        title=Text.assemble((bot_name, "bold default"), " ", ("APP", "white on #5865f2")),
        title_align="left",
        subtitle=Text(f"{footer}answered in {seconds * 1000:.0f} ms", style="#949ba4"),
        subtitle_align="left",
        border_style="#4e5058",
        padding=(0, 1),
    )


def _embed(embed: Mapping[str, Any], reader: _Reader) -> RenderableType:
    shown: list[RenderableType] = []
    if embed.get("title"):
        title = reader.text(str(embed["title"]))
        title.stylize("bold")
        shown.append(title)
    if embed.get("description"):
        shown.append(reader.text(str(embed["description"])))
    shown.extend(_fields(embed.get("fields") or (), reader))
    if embed.get("footer"):
        footer = str(embed["footer"]["text"])
        if embed.get("timestamp"):
            when = datetime.fromisoformat(str(embed["timestamp"]))
            footer += f" • {when.astimezone():{_MOMENT}}"
        shown.append(Text(footer, style="dim"))
    colour = f"#{embed.get('color') or 0x4E5058:06x}"
    return _Barred(Group(*shown), colour)


class _Barred:
    """A content with a coloured bar on the left, as Discord draws an embed."""

    def __init__(self, content: RenderableType, colour: str) -> None:
        self._content = content
        self._bar = Segment("▌ ", Style.parse(colour))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self._content, options.update_width(options.max_width - 2)):
            yield self._bar
            yield from line
            yield Segment.line()


def _fields(fields: Iterable[Mapping[str, Any]], reader: _Reader) -> Iterator[RenderableType]:
    """Yield the fields; inline fields are side by side, three in a row, as in Discord."""
    for inline, run in groupby(fields, key=lambda field: bool(field.get("inline"))):
        cells = [
            Group(Text(str(field["name"]), style="bold"), reader.text(str(field["value"]))) for field in run
        ]
        width = _FIELDS_IN_A_ROW if inline else 1
        for start in range(0, len(cells), width):
            row = Table.grid(expand=True, padding=(0, 2, 0, 0))
            for _ in range(width):
                row.add_column(ratio=1)
            row.add_row(*cells[start : start + width])
            yield Padding(row, (1, 0, 0, 0) if inline and start == 0 else 0)


def _buttons(buttons: Iterable[Mapping[str, Any]]) -> RenderableType:
    line = Text()
    for button in buttons:
        style = _BUTTON_STYLES.get(int(button.get("style") or 2), _BUTTON_STYLES[2])
        line.append(f" {button.get('label') or button.get('custom_id')} ", style).append("  ")
    return Padding(line, (1, 0, 0, 1))


class _Reader:
    """Turns Discord's markdown into text, as one reader sees it."""

    def __init__(self, users: Mapping[int, SimUser]) -> None:
        self._users = users

    def text(self, markdown: str) -> Text:
        """Return the text with its emphasis, mentions and timestamps."""
        shown = Text()
        end = 0
        for match in _MARKDOWN.finditer(markdown):
            shown.append(markdown[end : match.start()])
            shown.append_text(self._piece(match))
            end = match.end()
        return shown.append(markdown[end:])

    def _piece(self, match: re.Match[str]) -> Text:
        kind = str(match.lastgroup)
        if kind == "form":
            kind = "moment"
        body = match[kind]
        match kind:
            case "bold":
                piece = self.text(body)
                piece.stylize("bold")
                return piece
            case "code" | "block":
                return Text(body, style=_CODE)
            case "user":
                user = self._users.get(int(body))
                return Text(f"@{user.name if user is not None else body}", style="#c9cdfb on #3c4270")
            case "moment":
                when = datetime.fromtimestamp(int(body), UTC)
                shown = _relative(when) if match["form"] == "R" else f"{when.astimezone():{_MOMENT}}"
                return Text(shown, style="underline")
            case _:
                return Text(body)


def _relative(when: datetime) -> str:
    seconds = (when - datetime.now(UTC)).total_seconds()
    # 95 % of a unit counts as the unit, so that a new "2 hours" does not become "119 minutes".
    unit, size = next((u for u in _UNITS if abs(seconds) > 0.95 * u[1]), _UNITS[-1])
    count = round(abs(seconds) / size)
    text = f"{count} {unit}{'' if count == 1 else 's'}"
    return f"in {text}" if seconds >= 0 else f"{text} ago"
