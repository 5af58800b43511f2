"""Shows tables and facts, coloured on a terminal and plain in a pipe; or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer
from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .._streams import can_draw, write
from ..exit_codes import ExitCode
from ._exit import fail, stopped_before_words
from ._words import clean

_GAP = "  "
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table; `style` is a rich style, used on a terminal only."""

    text: str
    style: str = ""


Row = Sequence[Cell | str]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table with a heading for each column."""

    headings: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Facts:
    """Labels with their values, one on each line, under an optional title."""

    rows: Sequence[tuple[str, Cell | str]]
    title: Cell | str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """Lines that belong together and are never wrapped."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Parts:
    """One line of several values; those without text are left out."""

    cells: Sequence[Cell | str]


@dataclass(frozen=True, slots=True)
class Steps:
    """Instructions: a sentence, then lines to copy, which are never wrapped."""

    title: Cell
    sentence: str
    commands: Sequence[str] = ()


Block = Grid | Facts | Line | Listing | Parts | Steps


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def show(*blocks: Block) -> None:
    """Write the blocks to standard output, with a blank line between them."""
    if on_terminal():
        # A line to copy may be longer than the terminal is wide: the terminal wraps it itself.
        console().print(pretty(*blocks), crop=False)
    else:
        write(plain(*blocks))


def console() -> Console:
    """Return standard output for rich, without its automatic highlighting."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def emit(value: Mapping[str, Any], *, compact: bool = False) -> None:
    """Write JSON to standard output: one line when `compact`, else indented. ASCII is safe on terminals."""
    write(json.dumps(value, indent=None if compact else 2))


def plain(*blocks: Block) -> str:
    """Return the blocks as text in columns, without cutting anything off."""
    return "\n\n".join(_plain(block) for block in blocks)


def _plain(block: Block) -> str:
    match block:
        case Grid(headings, rows):
            lines = [
                [heading.upper() for heading in headings],
                *([_text(cell) for cell in row] for row in rows),
            ]
            return _aligned(lines)
        case Facts(rows, title):
            facts = _aligned([[f"{label}:", _text(value)] for label, value in rows])
            return f"{_text(title)}\n{facts}" if title else facts
        case Line(text):
            return clean(text)
        case Listing(lines):
            return "\n".join(map(clean, lines))
        case Parts(cells):
            return _GAP.join(filter(None, map(_text, cells)))
        case Steps(title, sentence, commands):
            return "\n".join([_text(title), _text(sentence), *_indented(commands)])


def _indented(commands: Sequence[str]) -> list[str]:
    return [f"{_INDENT}{clean(command)}" for command in commands]


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    padded = (
        [set_cell_size(cell, width) for cell, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join(_GAP.join(line).rstrip() for line in padded)


def pretty(*blocks: Block) -> RenderableType:
    """Return the blocks for a terminal."""
    shown: list[RenderableType] = []
    for block in blocks:
        if shown:
            shown.append(Text())
        shown.append(_pretty(block))
    return Group(*shown)


def _pretty(block: Block) -> RenderableType:
    match block:
        case Grid(headings, rows):
            table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
            for heading in headings:
                table.add_column(heading, overflow="fold")
            for row in rows:
                table.add_row(*(_styled(cell) for cell in row))
            return table
        case Facts(rows, title):
            table = Table(box=None, show_header=False, pad_edge=False)
            table.add_column(style="dim", no_wrap=True)
            table.add_column(overflow="fold")
            for label, value in rows:
                table.add_row(label, _styled(value))
            return Group(_styled(title), table) if title else table
        case Line(text, style):
            return Text(clean(text), style=style)
        case Listing(listed):
            return Group(*(Text(clean(line), no_wrap=True, overflow="ignore") for line in listed))
        case Parts(cells):
            return Text(_GAP).join(text for text in map(_styled, cells) if text)
        case Steps(title, sentence, commands):
            lines = [Text(line, no_wrap=True, overflow="ignore") for line in _indented(commands)]
            return Group(_styled(title), _styled(sentence), *lines)


def _text(cell: Cell | str) -> str:
    return clean(cell if isinstance(cell, str) else cell.text)


def _styled(cell: Cell | str) -> Text:
    return Text(_text(cell), style="" if isinstance(cell, str) else cell.style)


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show a spinner on standard error while the body works, if it can turn there."""
    if not can_draw(sys.stderr):
        yield
        return
    errors = Console(stderr=True, highlight=False, markup=False)
    with errors.status(f"{doing}…") as spinner, stopped_before_words(spinner.stop):
        yield


def note(text: str) -> None:
    """Write a remark to standard error, if that is a terminal."""
    if sys.stderr.isatty():
        typer.echo(text, err=True)


def can_ask() -> bool:
    """Return whether a person can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def must_be_answerable(yes: bool) -> None:
    """End the command when it must ask a question and nobody can answer."""
    if not yes and not can_ask():
        fail(["This asks first, and there is no terminal to ask on: add --yes to go on."], ExitCode.USAGE)


def confirm(question: str, *, yes: bool, told: Sequence[str] = ()) -> None:
    """Ask on the terminal, after the lines `told`. A no ends the command; with `yes` it does not ask."""
    must_be_answerable(yes)
    if yes:
        return
    for line in told:
        typer.echo(clean(line), err=True)
    if not typer.confirm(clean(question), err=True):
        fail(["Nothing was changed."], ExitCode.REFUSED)
