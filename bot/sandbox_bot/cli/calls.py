"""`calls`: what a sandbox's bot asked of Discord, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from sandbox_core.models import Sandbox
from sandbox_gateway.calls import KEPT, CallRecord, Ring

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from . import _options as options
from ._exit import run
from ._screen import Cell, Grid, Line, busy, emit, show
from ._session import opened
from ._words import iso

_PAUSE = 0.5
_READ = "read the calls of"


def calls(
    name: options.Name,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with each call as it comes, until Ctrl-C.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=KEPT, help="The newest so many.")] = 50,
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Show what the bot of a sandbox asked of Discord: route, status, and why a call was refused."""
    if follow:
        run(_follow(name, owner, limit, as_json=as_json), interrupted=ExitCode.DONE)
        return
    with busy("Reading"):
        records = run(_last(name, owner, limit))
    if as_json:
        emit({"calls": [_json(each) for each in records]})
        return
    show(_table(records) if records else Line("There were no calls of late."))


async def _last(name: str, owner: str | None, limit: int) -> list[CallRecord]:
    async with opened() as core:
        sandbox = await core.manager.get(name)
        core.manager.check_may_manage(caller.actor(owner, core.settings), sandbox, _READ)
        return await Ring.of_calls(core.redis, sandbox.id).last(limit)


async def _follow(name: str, owner: str | None, limit: int, *, as_json: bool) -> None:
    async with opened() as core:
        sandbox: Sandbox = await core.manager.get(name)
        core.manager.check_may_manage(caller.actor(owner, core.settings), sandbox, _READ)
        ring = Ring.of_calls(core.redis, sandbox.id)
        records = await ring.last(limit)
        while True:
            for record in records:
                if as_json:
                    emit(_json(record), compact=True)
                else:
                    show(Line(_line(record)))
            await asyncio.sleep(_PAUSE)
            records = await ring.further()


def _table(records: Sequence[CallRecord]) -> Grid:
    return Grid(
        ("time", "method", "route", "status", "ms", "refused"),
        [
            (
                iso(each.time),
                each.method,
                each.route or "unknown",
                Cell(str(each.status), "" if each.status < 400 else "yellow"),
                f"{each.ms:g}",
                each.refused,
            )
            for each in records
        ],
    )


def _line(record: CallRecord) -> str:
    refused = f"  refused: {record.refused}" if record.refused else ""
    return f"{iso(record.time)}  {record.status}  {record.method} {record.route}  {record.ms:g} ms{refused}"


def _json(record: CallRecord) -> json.Json:
    return {**asdict(record), "at": iso(record.time), "refused": record.refused or None}
