"""`doctor`: whether everything the bot needs is there, and how to mend what is not."""

from __future__ import annotations

import typer

from sandbox_core.bootstrap import NatsUse
from sandbox_core.misspelt import misspelt_settings
from sandbox_core.settings import SettingsError, load_settings

from ..exit_codes import ExitCode
from . import _options as options
from ._checks import Finding, State, check_servers
from ._outcome import run
from ._screen import Cell, Grid, Line, busy, emit, show
from ._session import opened

_LOOK = {
    State.OK: Cell("ok", "green"),
    State.NOTE: Cell("note", "blue"),
    State.FAILED: Cell("failed", "red"),
    State.AWAY: Cell("away", "red"),
}


def doctor(as_json: options.Json = False) -> None:
    """Check settings, servers, migrations, streams, permissions and clock; say how to mend what is wrong."""
    with busy("Looking"):
        settings = _settings()
        wrong_settings = any(finding.state is State.FAILED for finding in settings)
        findings = settings if wrong_settings else settings + run(_servers())
    code = ExitCode.USAGE if wrong_settings else _exit_code(findings)
    if as_json:
        emit(
            {
                "ok": code is ExitCode.DONE,
                "checks": [
                    {
                        "area": finding.area,
                        "state": finding.state.value,
                        "detail": finding.detail,
                        "mend": finding.mend or None,
                    }
                    for finding in findings
                ],
            }
        )
    else:
        _show(findings, code)
    raise typer.Exit(code)


def _settings() -> list[Finding]:
    try:
        load_settings()
    except SettingsError as error:
        return [
            Finding("Settings", State.FAILED, problem, "Set it in the environment or in .env.")
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


def _exit_code(findings: list[Finding]) -> ExitCode:
    states = {finding.state for finding in findings}
    if State.AWAY in states:
        return ExitCode.DEPENDENCY
    return ExitCode.REFUSED if State.FAILED in states else ExitCode.DONE


def _show(findings: list[Finding], code: ExitCode) -> None:
    rows = [(finding.area, _LOOK[finding.state], finding.detail, finding.mend) for finding in findings]
    wrong = sum(finding.state in {State.FAILED, State.AWAY} for finding in findings)
    verdict = Line("All is well.", "green") if code is ExitCode.DONE else Line(f"To mend: {wrong}.", "red")
    show(Grid(("area", "state", "found", "to mend it"), rows), verdict)
