"""`doctor --isolation`: runs the proof of isolation, and shows what came of it."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox_core.bootstrap import NatsUse
from sandbox_core.isolation import Report, Section, Verdict, prove, verdict_text

from ..exit_codes import ExitCode
from . import _caller as caller
from ._screen import Block, Cell, Grid, Line, Row, Steps
from ._session import opened

_OK, _AWAY = Cell("ok", "green"), Cell("away", "red")


async def isolation() -> Report:
    """Make two sandboxes, attack one with the other's login, and remove both."""
    async with opened(NatsUse.TRIAL) as core:
        return await prove(core, caller.actor(None, core.settings))


def exit_code(report: Report) -> ExitCode:
    """Return the exit code for what was found."""
    if report.failed:
        return ExitCode.REFUSED
    if report.away:
        return ExitCode.DEPENDENCY
    return ExitCode.DONE if report.proven else ExitCode.REFUSED


def blocks(report: Report) -> Iterator[Block]:
    """Yield the table, what was not denied, what remains possible, what to do, and the verdict."""
    if report.sections:
        rows = [row for section in report.sections for row in _rows(section)]
        yield Grid(("server", "where", "attacks", "denied", "state"), rows)
    if report.failed:
        yield Grid(
            ("not denied", "attacks", "tried", "what came back"),
            [
                (section.title, each.group, Cell(each.what, "red"), each.came_back)
                for section, each in report.failed
            ],
        )
        sentence = "Take back what lets it through: docs/servers.md has what a server needs. Then try again."
        yield Steps(Cell("The servers do not keep sandboxes apart.", "red"), sentence)
    if report.possible:
        yield Grid(
            ("possible by design", "on", "why"),
            [(", ".join(whats), title, reason) for (title, reason), whats in report.possible.items()],
        )
    for section in report.away:
        title = f"{section.title} at {section.where}" if section.where else section.title
        sentence = "Start it, and check its setting; `sandboxctl doctor` says more."
        yield Steps(Cell(f"{title}: {section.away.removesuffix('.')}.", "red"), sentence)
    if report.left:
        yield Line(f"Not removed yet: {', '.join(report.left)}; the bot's cleanup goes on.", "yellow")
    yield Line(verdict_text(report), "green" if report.proven else "red")


def _rows(section: Section) -> Iterator[Row]:
    """Yield a row for each group; the server stands in the first."""
    title, where = section.title, section.where
    for group in section.groups:
        denied, failed = section.count(Verdict.DENIED, group), section.count(Verdict.FAILED, group)
        possible = section.count(Verdict.POSSIBLE, group)
        state = Cell(f"{failed} not denied", "red") if failed else _OK
        if possible and not failed:
            state = Cell(f"{possible} possible by design", "blue")
        yield title, where, group, f"{denied} of {denied + failed}" if denied + failed else "", state
        title, where = "", ""
    if section.away:
        yield title, where, "the rest" if section.tried else "", "", _AWAY
