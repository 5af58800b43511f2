"""Two throw-away sandboxes, of which one attacks the other; they are removed whatever happens.

They are ordinary sandboxes with a short life. A process that dies leaves them to the bot's cleanup, and so
does one that can't remove them because a server is away.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from sandbox_core.bootstrap import Core
from sandbox_core.context import environment
from sandbox_core.errors import SandboxError, SandboxNotFound
from sandbox_core.manager import trial_actor
from sandbox_core.models import Actor, Sandbox

_log = structlog.get_logger("sandbox.isolation")

_NAME = "isolation-trial"


@dataclass(frozen=True, slots=True)
class Held:
    """A sandbox, and all that `connect` shows of it."""

    sandbox: Sandbox
    names: Mapping[str, str]
    """Its id and the names of its parts: no secrets."""
    logins: Mapping[str, str] = field(repr=False)
    """The addresses with its own logins."""


@asynccontextmanager
async def two_sandboxes(core: Core, actor: Actor, left: list[str]) -> AsyncIterator[tuple[Held, Held]]:
    """Make the attacker's and the neighbour's, and remove them; names that can't be removed go to `left`.

    Raises what `SandboxManager.create` raises. A cancellation waits for the removal.
    """
    made: list[Sandbox] = []
    token = secrets.token_hex(3)
    try:
        for whose in ("attacker", "neighbour"):
            created = await core.manager.create_trial(actor, f"{_NAME}-{token}-{whose}")
            made.append(created.sandbox)
        attacker, neighbour = (_held(core, sandbox) for sandbox in made)
        yield attacker, neighbour
    finally:
        await _whatever_happens(asyncio.ensure_future(_removed(core, actor, made, left)))


def _held(core: Core, sandbox: Sandbox) -> Held:
    names = environment(sandbox, core.settings.stream_names)
    return Held(sandbox, names, core.manager.credentials(sandbox))


async def _removed(core: Core, actor: Actor, made: Sequence[Sandbox], left: list[str]) -> None:
    async def remove(sandbox: Sandbox) -> None:
        try:
            await core.manager.destroy(trial_actor(actor), str(sandbox.id))
        except SandboxNotFound:
            # The bot's cleanup was sooner.
            pass
        except SandboxError as error:
            _log.warning("trial_sandbox_left", sandbox_id=str(sandbox.id), reason=str(error))
            left.append(sandbox.name)

    await asyncio.gather(*(remove(sandbox) for sandbox in made))


async def _whatever_happens(work: asyncio.Future[None]) -> None:
    """Wait for the end of `work`, which has limits of its own; a cancellation takes effect afterwards."""
    interruption: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            if work.cancelled():
                raise
            interruption = error
    work.result()
    if interruption is not None:
        raise interruption
