"""Shows what is kept of a sandbox's bot: the last records, or each as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from sandbox_core.bootstrap import Core
from sandbox_core.client_endpoint import PRODUCTION
from sandbox_core.production import check_owner
from sandbox_gateway.calls import Ring

from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from ._exit import run, usage
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


@dataclass(frozen=True, slots=True)
class Whose:
    """The sandbox `name`, or production; asked for by `owner`, or by the operator."""

    name: str | None
    production: bool
    owner: str | None


def show_ring(kind: Shown, whose: Whose, limit: int, *, follow: bool, as_json: bool) -> None:
    """Show the newest records, and with `follow` all further ones until Ctrl-C."""
    if follow:
        run(_follow(kind, whose, limit, as_json=as_json), interrupted=ExitCode.DONE)
        return
    with busy("Reading"):
        records = run(_last(kind, whose, limit))
    if as_json:
        emit({kind.name: [kind.as_json(each) for each in records]})
        return
    show(kind.table(records) if records else Line(f"There were no {kind.name} of late."))


async def _last(kind: Shown, whose: Whose, limit: int) -> list[Any]:
    async with opened() as core:
        return await (await _ring(core, kind, whose)).last(limit)


async def _follow(kind: Shown, whose: Whose, limit: int, *, as_json: bool) -> None:
    async with opened() as core:
        ring = await _ring(core, kind, whose)
        records = await ring.last(limit)
        while True:
            for record in records:
                if as_json:
                    emit(kind.as_json(record), compact=True)
                else:
                    show(Line(kind.line(record)))
            await asyncio.sleep(_PAUSE)
            records = await ring.further()


async def _ring(core: Core, kind: Shown, whose: Whose) -> Ring:
    actor = caller.actor(whose.owner, core.settings)
    if whose.production == (whose.name is not None):
        raise usage("Say whose: the sandbox's NAME, or --production.")
    if whose.name is None:
        check_owner(actor, f"read the {kind.name} of production's bot")
        return kind.ring(core.redis, PRODUCTION)
    sandbox = await core.manager.get(whose.name)
    core.manager.check_may_manage(actor, sandbox, f"read the {kind.name} of")
    return kind.ring(core.redis, sandbox.id)
