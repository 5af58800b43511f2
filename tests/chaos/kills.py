"""How long a killed process is missed: until its session goes on, and until its work is taken back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from discord_sim import SimError

from .bots import ChaosError, until

if TYPE_CHECKING:
    from .stage import Stage

_WITHIN = 40.0
_TRIES = 20
_ANSWER_WITHIN = 5.0


@dataclass
class Kills:
    """Seconds from each kill that was measured."""

    resumed: list[float] = field(default_factory=list)
    """Until Discord had answered the successor with RESUMED, its start included."""
    freed: list[float] = field(default_factory=list)
    """Until the name of a creation that was cut off was free again."""


async def restart(stage: Stage, number: int, kills: Kills) -> None:
    """Kill a process, start another one in its place, and measure."""
    killed_at = time.time()
    await stage.restart(number)

    def resumed() -> list[float]:
        return [r.at - killed_at for r in stage.sim.resumes if r.replayed is not None and r.at > killed_at]

    await until(resumed, _WITHIN, "a resume after a kill")
    kills.resumed.append(min(resumed()))


async def restart_while_it_creates(stage: Stage, number: int, kills: Kills) -> None:
    """Kill a process in the middle of a creation, start another one in its place, and measure."""
    connection = await asyncpg.connect(stage.servers.database_url)
    try:
        for attempt in range(_TRIES):
            name = f"cut-off-{attempt}"
            creating = asyncio.create_task(_create(stage, name))
            if await _held_while_creating(connection, name, creating):
                break
            await creating
        else:
            raise ChaosError("no creation could be cut off")
        killed, killed_at = stage.places[number], time.monotonic()
        restarting = asyncio.create_task(restart(stage, number, kills))
        await until(lambda: not killed.running, _WITHIN, "a kill")
        await connection.execute("ROLLBACK")
        taken = "SELECT true FROM sandboxes WHERE name = $1 AND status <> 'destroyed'"
        async with asyncio.timeout(_WITHIN):
            while await connection.fetchval(taken, name):
                await asyncio.sleep(0.02)
        kills.freed.append(time.monotonic() - killed_at)
        await restarting
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
    finally:
        await connection.close()


async def _held_while_creating(
    connection: asyncpg.Connection, name: str, creating: asyncio.Task[None]
) -> bool:
    """Lock the sandbox's row as soon as it is there, so that its creation can't end; False when it has."""
    while not creating.done():
        await connection.execute("BEGIN")
        status = await connection.fetchval(
            "SELECT status::text FROM sandboxes WHERE name = $1 FOR UPDATE", name
        )
        if status == "creating":
            return True
        await connection.execute("ROLLBACK")
    return False


async def _create(stage: Stage, name: str) -> None:
    dev = stage.sim.world.guilds[min(stage.sim.world.guilds)]
    try:
        await stage.sim.slash(
            dev.owner, dev.default_channel, "sandbox create", name=name, timeout=_ANSWER_WITHIN
        )
    except SimError:
        # Whoever was to answer is dead.
        return
