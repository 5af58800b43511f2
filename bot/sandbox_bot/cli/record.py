"""`record`: keeps a sandbox's events beyond its life."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from sandbox_core.bootstrap import Core, NatsUse
from sandbox_core.models import Actor
from sandbox_core.postgres.recordings import Recording, RecordingStatus

from . import _caller as caller
from . import _options as options
from . import _recording_views as views
from ._exit import run
from ._screen import Line, busy, emit, show
from ._session import opened

_LOOK_EVERY = 0.2
_TAKEN_WITHIN = 5.0
_ENDED_WITHIN = 15.0


class Action(StrEnum):
    """What is done."""

    START = "start"
    STOP = "stop"


def record(
    action: Annotated[Action, typer.Argument(metavar="start|stop", help="What to do.")],
    name: options.Name,
    as_name: Annotated[str, typer.Argument(metavar="AS", help="The recording's name.")],
    *,
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Record a sandbox's events from now on, or end that; the bot records, this command does not stay."""
    with busy("Starting" if action is Action.START else "Stopping"):
        work = _start if action is Action.START else _stop
        recording = run(work(name, as_name, owner))
    if as_json:
        emit({"recording": views.as_json(recording)})
        return
    if action is Action.START:
        show(Line(f"Recording {recording.sandbox_name} as {recording.name}."))
        if not recording.claimed:
            show(Line("No process of the bot has taken it yet: one has to run within five minutes."))
        return
    if recording.status is RecordingStatus.ENDED:
        show(Line(views.sentence(recording)))
    else:
        show(Line(f"{recording.name} ends here. What came before is still being written, once the bot runs."))


async def _start(name: str, as_name: str, owner: str | None) -> Recording:
    async with opened(NatsUse.SANDBOXES) as core:
        actor = caller.actor(owner, core.settings)
        await core.recordings.library.start(actor, name, as_name)
        return await _when(core, actor, as_name, _TAKEN_WITHIN)


async def _stop(name: str, as_name: str, owner: str | None) -> Recording:
    async with opened(NatsUse.SANDBOXES) as core:
        actor = caller.actor(owner, core.settings)
        await core.recordings.library.stop(actor, name, as_name)
        return await _when(core, actor, as_name, _ENDED_WITHIN, ended=True)


async def _when(core: Core, actor: Actor, name: str, within: float, *, ended: bool = False) -> Recording:
    """Return the recording once a process has it, or it has ended, or else after some seconds."""
    until = asyncio.get_running_loop().time() + within
    while True:
        found = await core.recordings.library.get(actor, name)
        if found.status is RecordingStatus.ENDED or (found.claimed and not ended):
            return found
        left = until - asyncio.get_running_loop().time()
        if left < 0 or (not found.claimed and left < within - _TAKEN_WITHIN):
            return found
        await asyncio.sleep(_LOOK_EVERY)
