"""Formats an answer as one Discord message: at most 2,000 characters, the rest in an attached file.

The limit comes from Discord's developer documentation (message resource, "Create Message").
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import discord

MESSAGE_LIMIT = 2000
_FENCE = "```"


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` in Discord's markdown; below it `table`, whose lines are shown in a fixed-width font."""

    text: str
    table: tuple[str, ...] = ()
    filename: str = "answer.txt"
    """The name of the file for an answer that is too long for a message."""
    view: discord.ui.View | None = None
    """The buttons below it."""


def as_message(answer: Answer) -> tuple[str, discord.File | None]:
    """Return the message's text, and a file with the whole answer when it does not fit."""
    whole = answer.text
    if answer.table:
        whole = "\n".join((answer.text, _FENCE, *answer.table, _FENCE))
    if _length(whole) <= MESSAGE_LIMIT:
        return whole, None
    note = "The attached file has all of it."
    if answer.table and _length(answer.text) + len(note) < MESSAGE_LIMIT:
        return f"{answer.text}\n{note}", _file(answer.table, answer.filename)
    first = _first_lines(answer.text, MESSAGE_LIMIT - len(note) - 1)
    return f"{first}{note}", _file((answer.text, *answer.table), answer.filename)


def columns(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the rows as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _first_lines(text: str, limit: int) -> str:
    shown = ""
    for line in text.splitlines():
        if _length(shown) + _length(line) + 1 > limit:
            break
        shown += f"{line}\n"
    return shown


def _length(text: str) -> int:
    # Discord may count UTF-16 units: an emoji has two.
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _file(lines: Sequence[str], filename: str) -> discord.File:
    content = "\n".join((*lines, "")).encode("utf-8", "replace")
    return discord.File(io.BytesIO(content), filename=filename)
