"""`doctor`: checks that everything the bot needs is there and works, and says how to fix the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, NoReturn

import typer

from sandbox_core.bootstrap import NatsUse
from sandbox_core.misspelt import misspelt_settings
from sandbox_core.settings import OF_A_SANDBOX, SettingsError, load_settings

from ..doctor import Finding, State, check_servers
from ..exit_codes import ExitCode
from . import _doctor_isolation as proof
from . import _json as json
from . import _options as options
from ._exit import run
from ._screen import Block, Cell, Grid, Line, Steps, busy, emit, show
from ._session import opened

_LOOK = {
    State.OK: Cell("ok", "green"),
    State.NOTE: Cell("note", "blue"),
    State.FAILED: Cell("failed", "red"),
    State.AWAY: Cell("away", "red"),
}


def doctor(
    isolation: Annotated[
        bool,
        typer.Option(
            "--isolation",
            help="Make two throw-away sandboxes, attack one with the other's login, and report.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check settings, servers, rights, migrations, streams and clocks; say how to fix what is wrong."""
    if isolation:
        _prove(as_json)
    with busy("Looking"):
        settings = _settings()
        wrong_settings = any(finding.state is State.FAILED for finding in settings)
        findings = settings if wrong_settings else settings + run(_servers())
    code = ExitCode.USAGE if wrong_settings else _exit_code(findings)
    if as_json:
        emit(json.doctor(findings, ok=code is ExitCode.DONE))
    else:
        show(*_blocks(findings, code))
    raise typer.Exit(code)


def _prove(as_json: bool) -> NoReturn:
    with busy("Attacking"):
        report = run(proof.isolation())
    if as_json:
        emit(json.isolation(report))
    else:
        show(*proof.blocks(report))
    raise typer.Exit(proof.exit_code(report))


def _settings() -> list[Finding]:
    try:
        load_settings()
    except SettingsError as error:
        return [
            Finding(
                "Settings",
                State.FAILED,
                problem,
                # That sentence says itself what to do.
                "" if OF_A_SANDBOX in problem else "Set it in the environment or in .env.",
            )
            for problem in error.problems
        ]
    misspelt = [
        Finding("Settings", State.NOTE, str(each), f"Rename it to {each.nearest}, or take it out.")
        for each in misspelt_settings()
    ]
    return [Finding("Settings", State.OK, "every setting can be used"), *misspelt]


async def _servers() -> list[Finding]:
    async with opened(NatsUse.SANDBOXES) as core:
        return await check_servers(core)


def _exit_code(findings: Sequence[Finding]) -> ExitCode:
    states = {finding.state for finding in findings}
    if State.AWAY in states:
        return ExitCode.DEPENDENCY
    return ExitCode.REFUSED if State.FAILED in states else ExitCode.DONE


def _blocks(findings: Sequence[Finding], code: ExitCode) -> Iterator[Block]:
    """Yield the table, then the instructions, then the verdict."""
    rows = [(each.area, each.where, _LOOK[each.state], each.detail) for each in findings]
    yield Grid(("area", "where", "state", "found"), rows)
    yield from (_steps(finding) for finding in findings if finding.mend)
    yield _verdict(findings, code)


def _verdict(findings: Sequence[Finding], code: ExitCode) -> Line:
    if code is not ExitCode.DONE:
        return Line(f"To fix: {sum(finding.wrong for finding in findings)}.", "red")
    if not any(finding.area == "Discord" and finding.state is State.OK for finding in findings):
        # Without a token no guild can be registered and no event comes.
        return Line("The servers are well. Discord was not checked.", "green")
    return Line("All is well.", "green")


def _steps(finding: Finding) -> Steps:
    of = f"{finding.area} at {finding.where}" if finding.where else finding.area
    title = Cell(f"{of}: {finding.detail.removesuffix('.')}.", _LOOK[finding.state].style)
    return Steps(title, finding.mend, finding.commands)
