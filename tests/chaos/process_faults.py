"""Processes of the bot that die, stand still or are replaced."""

from __future__ import annotations

import asyncio
import signal
import time

import asyncpg

from . import kills
from .bots import RECOVERS_WITHIN, ChaosError, until
from .stage import Stage

_ONE_ROUND = 40.0
_BOTH = 2


async def bot_killed(stage: Stage, seconds: float) -> None:
    """SIGKILL at random moments; the first ones are measured, one of them in the middle of a creation."""
    ends = time.monotonic() + seconds
    for measured in (kills.restart, kills.restart_while_it_creates):
        await asyncio.sleep(stage.chance.uniform(0.3, 2.0))
        await measured(stage, 0, stage.kills)
    while time.monotonic() < ends:
        await asyncio.sleep(stage.chance.uniform(0.3, 2.0))
        await stage.restart(stage.chance.randrange(stage.scenario.processes))


async def rolling_restart(stage: Stage, seconds: float) -> None:
    """A new process starts, the old one gets SIGTERM; three times."""
    for _ in range(3):
        await asyncio.sleep(seconds / 4)
        await stage.bots.start()
        await stage.bots.stop(stage.bots.running[0])


async def plugin_beside(stage: Stage, seconds: float) -> None:
    """The standalone bot and a bot with the plugin, one of which is killed again and again."""
    for _ in range(max(1, int(seconds / _ONE_ROUND))):
        host = stage.host
        if host is None:
            raise ChaosError("there is no plugin")
        await _covered(stage)
        await stage.bots.kill(stage.places[0])
        await until(lambda host=host: host.events["shard_joined"], RECOVERS_WITHIN, "the plugin's turn")
        stage.one_more_identify()
        await stage.start(0)
        bot = stage.places[0]
        await until(
            lambda bot=bot: bot.events["publishing_stands_by"], RECOVERS_WITHIN, "a bot that stands by"
        )
        await stage.sim.wait_for(lambda: sum(1 for s in stage.sim.sessions if s.connected) == _BOTH)
        await _covered(stage)
        await stage.bots.kill(host)
        await until(lambda bot=bot: bot.events["shard_joined"], RECOVERS_WITHIN, "the bot's turn")
        await stage.start_host()


async def _covered(stage: Stage) -> None:
    """Return when all that happened until now is stored: who stands by has the rest."""
    connection = await asyncpg.connect(stage.servers.database_url)
    try:
        now = await connection.fetchval("SELECT clock_timestamp()")
        async with asyncio.timeout(RECOVERS_WITHIN):
            while not await connection.fetchval(
                "SELECT bool_and(settled_at > $1) FROM gateway_shards WHERE holder IS NOT NULL", now
            ):
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def process_frozen(stage: Stage, seconds: float) -> None:
    """SIGSTOP: a process that does not answer while routes change, and wakes up with what it knew."""
    dev = min(stage.sim.world.guilds)
    answering = (dev >> 22) % stage.scenario.shards
    frozen = stage.places[stage.chance.choice([n for n in stage.places if n != answering])]
    await asyncio.sleep(seconds / 4)
    frozen.process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(max(9.0, seconds / 2))
    finally:
        frozen.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(seconds / 4)


async def cut_off(stage: Stage, seconds: float) -> None:
    """One process alone does not reach PostgreSQL: the other takes its shards, and both may be connected."""
    if stage.way is None:
        raise ChaosError("there is no way to cut")
    process = stage.places[0]
    await asyncio.sleep(seconds / 4)
    stage.way.cut()
    await until(lambda: process.events["shard_lost"], RECOVERS_WITHIN, "the loss of its shards")
    await asyncio.sleep(seconds / 2)
    stage.way.mend()
    await until(lambda: process.events["leases_confirmed"], RECOVERS_WITHIN, "its return")
    await asyncio.sleep(seconds / 4)
