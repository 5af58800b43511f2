"""`status`: shows one sandbox and its stores, once or until Ctrl-C."""

from __future__ import annotations

import asyncio
from typing import Annotated, NoReturn

import typer
from rich.live import Live

from sandbox_core.bootstrap import Core, NatsUse
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.limits_text import Limits
from sandbox_core.manager import utc_now

from .._streams import write
from ..exit_codes import ExitCode
from . import _caller as caller
from . import _json as json
from . import _options as options
from . import _views as views
from ._exit import run
from ._screen import (
    Block,
    Line,
    busy,
    console,
    emit,
    on_terminal,
    plain,
    pretty,
    show,
)
from ._session import opened
from ._words import error_line, moment


def status(
    name: options.OptionalName = None,
    owner: options.Owner = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep it up to date until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.5, max=3600, metavar="SECONDS", help="Pause of --watch.")
    ] = 2.0,
    as_json: options.Json = False,
) -> None:
    """Show one sandbox, and how each of its stores serves it."""
    if watch:
        run(_watch(name, owner, interval, as_json), interrupted=ExitCode.DONE)
        return
    with busy("Asking the servers"):
        blocks, shape = run(_status(name, owner))
    if as_json:
        emit(shape)
    else:
        show(*blocks)


_Shown = tuple[list[Block], json.Json]


async def _status(name: str | None, owner: str | None) -> _Shown:
    async with opened(NatsUse.SANDBOXES) as core:
        return await _look(core, await _reference(core, name, owner))


async def _reference(core: Core, name: str | None, owner: str | None) -> str:
    # Each update looks the name up again: it may belong to another sandbox by then.
    return name if name is not None else str((await caller.named(core.manager, None, owner)).id)


async def _look(core: Core, reference: str) -> _Shown:
    state = await core.manager.health(reference)
    now = utc_now()
    limits = Limits.of(core.settings)
    return views.health(state, limits, now), json.status(state, limits, now)


async def _watch(name: str | None, owner: str | None, interval: float, as_json: bool) -> None:
    async with opened(NatsUse.SANDBOXES) as core:
        reference = await _reference(core, name, owner)
        if on_terminal() and not as_json:
            await _watch_in_place(core, reference, interval)
        while True:
            blocks, shape = await _look_again(core, reference)
            if as_json:
                emit(shape, compact=True)
            else:
                write(plain(*blocks) + "\n")
            await asyncio.sleep(interval)


async def _watch_in_place(core: Core, reference: str, interval: float) -> NoReturn:
    blocks: list[Block] = []
    try:
        with Live(console=console(), auto_refresh=False, screen=True) as screen:
            while True:
                blocks, _ = await _look_again(core, reference)
                screen.update(pretty(*blocks, Line("Ctrl-C ends this.", "dim")), refresh=True)
                await asyncio.sleep(interval)
    finally:
        # Leaving the alternate screen clears it; the last status stays visible.
        show(*blocks)


async def _look_again(core: Core, reference: str) -> _Shown:
    try:
        return await _look(core, reference)
    except DependencyUnavailable as error:
        # Show the failure and go on: the reader wants to see the server come back.
        now = utc_now()
        return [Line(f"{moment(now)}  {error_line(error)}", "red")], json.status_unknown(error, now)
