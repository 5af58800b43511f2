"""PostgreSQL, Redis and NATS that are killed, full or slow."""

from __future__ import annotations

import asyncio

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy

from .bots import RECOVERS_WITHIN, until
from .stage import Stage, jetstream


async def nats_killed(stage: Stage, seconds: float) -> None:
    """The only nats-server is away for 10 seconds."""
    await asyncio.sleep(2)
    await stage.outage(stage.nats[0], max(2.0, min(10.0, seconds - 4)))
    await asyncio.sleep(2)


async def nats_node_killed(stage: Stage, seconds: float) -> None:
    """One of three nodes after the other."""
    for node in stage.chance.sample(stage.nats, 2):
        await asyncio.sleep(2)
        await stage.outage(node, seconds / 3)
        await asyncio.sleep(2)


async def redis_killed(stage: Stage, seconds: float) -> None:
    """Redis is away most of the time."""
    await asyncio.sleep(1)
    await stage.outage(stage.servers.valkey, seconds - 2)
    await asyncio.sleep(1)


async def bot_and_redis_killed(stage: Stage, seconds: float) -> None:
    """Redis dies right after the bot, and the next process starts without it."""
    for _ in range(2):
        await asyncio.sleep(seconds / 4)
        await stage.bots.kill(stage.places[0])
        await stage.servers.valkey.kill()
        starting = asyncio.create_task(stage.start(0))
        await asyncio.sleep(5)
        await stage.servers.valkey.start()
        await starting


async def postgres_killed(stage: Stage, seconds: float) -> None:
    """PostgreSQL is away most of the time."""
    await asyncio.sleep(1)
    await stage.outage(stage.servers.postgres, seconds - 2)
    await asyncio.sleep(1)


async def started_without_postgres(stage: Stage, seconds: float) -> None:
    """All processes die while PostgreSQL is away, and start without it: one of them runs all shards."""
    await asyncio.sleep(seconds / 4)
    await stage.servers.postgres.kill()
    for bot in stage.places.values():
        await stage.bots.kill(bot)
    before = len(stage.sim.resumes)
    starting = [asyncio.create_task(stage.start(number)) for number in stage.places]
    await until(
        lambda: sum(1 for r in stage.sim.resumes[before:] if r.replayed is not None) >= stage.scenario.shards,
        RECOVERS_WITHIN,
        "resumes without PostgreSQL",
    )
    await asyncio.sleep(seconds / 4)
    await stage.servers.postgres.start()
    await asyncio.gather(*starting)
    for bot in stage.bots.running:
        await until(lambda bot=bot: bot.events["routes_loaded"], RECOVERS_WITHIN, "routes")
    await asyncio.sleep(seconds / 4)


async def stale_cache(stage: Stage, seconds: float) -> None:
    """Routes change while Redis is away, who changed them dies, and Redis is back when PostgreSQL goes.

    The other processes knew the new routes, and the one that starts again is not there before PostgreSQL is.
    """
    answering = (min(stage.sim.world.guilds) >> 22) % stage.scenario.shards
    for _ in range(2):
        await stage.servers.valkey.kill()
        await asyncio.sleep(seconds / 4)
        await stage.bots.kill(stage.places[answering])
        await stage.servers.valkey.start()
        await stage.outage(stage.servers.postgres, 4)
        await stage.start(answering)


async def disk_full(stage: Stage, seconds: float) -> None:
    """JetStream refuses to store in EVENTS; SANDBOX, in memory, goes on."""
    await asyncio.sleep(seconds / 4)
    async with jetstream(stage) as js:
        await _limit_events(js, full=True)
        await asyncio.sleep(seconds / 2)
        await _limit_events(js, full=False)
    await asyncio.sleep(seconds / 4)


async def _limit_events(js: JetStreamContext, *, full: bool) -> None:
    info = await js.stream_info("EVENTS")
    if full:
        info.config.max_bytes, info.config.discard = info.state.bytes + 1, DiscardPolicy.NEW
    else:
        info.config.max_bytes, info.config.discard = -1, DiscardPolicy.OLD
    await js.update_stream(info.config)


async def slow_nats(stage: Stage, seconds: float) -> None:
    """Everything the server says comes two seconds late."""
    await asyncio.sleep(seconds / 4)
    for tap in stage.taps:
        tap.delay = 2.0
    await asyncio.sleep(seconds / 2)
    for tap in stage.taps:
        tap.delay = 0.0
    await asyncio.sleep(seconds / 4)
