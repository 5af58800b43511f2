"""Shows what is kept of a sandbox's bot: the last records, or each as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from sandbox_core.bootstrap import Core
from sandbox_gateway.calls import Ring

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from ._exit import run
from ._screen import Grid, Line, busy, emit, show
from ._session import opened

_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Shown:
    """How one kind of records is shown."""

    name: str
    """`calls`: the key of the JSON, and what is read."""
    ring: Callable[[Redis, UUID], Ring]
    table: Callable[[Sequence[Any]], Grid]
    line: Callable[[Any], str]
    as_json: Callable[[Any], json.Json]


def show_ring(kind: Shown, name: str, owner: str | None, limit: int, *, follow: bool, as_json: bool) -> None:
    """Show the newest records, and with `follow` all further ones until Ctrl-C."""
    if follow:
        run(_follow(kind, name, owner, limit, as_json=as_json), interrupted=ExitCode.DONE)
        return
    with busy("Reading"):
        records = run(_last(kind, name, owner, limit))
    if as_json:
        emit({kind.name: [kind.as_json(each) for each in records]})
        return
    show(kind.table(records) if records else Line(f"There were no {kind.name} of late."))


async def _last(kind: Shown, name: str, owner: str | None, limit: int) -> list[Any]:
    async with opened() as core:
        return await (await _ring(core, kind, name, owner)).last(limit)


async def _follow(kind: Shown, name: str, owner: str | None, limit: int, *, as_json: bool) -> None:
    async with opened() as core:
        ring = await _ring(core, kind, name, owner)
        records = await ring.last(limit)
        while True:
            for record in records:
                if as_json:
                    emit(kind.as_json(record), compact=True)
                else:
                    show(Line(kind.line(record)))
            await asyncio.sleep(_PAUSE)
            records = await ring.further()


async def _ring(core: Core, kind: Shown, name: str, owner: str | None) -> Ring:
    sandbox = await core.manager.get(name)
    core.manager.check_may_manage(caller.actor(owner, core.settings), sandbox, f"read the {kind.name} of")
    return kind.ring(core.redis, sandbox.id)
