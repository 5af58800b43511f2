"""What goes wrong. Each function acts for so many seconds while traffic runs, and heals at its end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

import asyncpg
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy

from . import kills
from .bots import ChaosError, until
from .stage import Scenario, Stage, jetstream

Faults = Callable[[Stage, float], Awaitable[None]]

_RECONNECTS_WITHIN = 40.0
_ONE_ROUND = 40.0
_BOTH = 2


async def _resumed_after(stage: Stage, strike: Callable[[], object], what: str) -> None:
    """Strike, and wait until a RESUME was answered with a replay."""
    before = sum(1 for r in stage.sim.resumes if r.replayed is not None)
    strike()
    await until(
        lambda: sum(1 for r in stage.sim.resumes if r.replayed is not None) > before,
        _RECONNECTS_WITHIN,
        f"a resume after {what}",
    )


async def _identified_after(stage: Stage, strike: Callable[[], object], what: str) -> None:
    """Strike at the session, and wait for the new ones of all shards."""
    before = len(stage.sim.identifies)
    stage.one_more_identify()
    strike()
    await until(
        lambda: len(stage.sim.identifies) >= before + stage.scenario.shards,
        _RECONNECTS_WITHIN,
        f"a new session after {what}",
    )


async def nothing(stage: Stage, seconds: float) -> None:
    """Only traffic and commands."""
    await asyncio.sleep(seconds)


async def bot_killed(stage: Stage, seconds: float) -> None:
    """SIGKILL at random moments; the first ones are measured, one of them in the middle of a creation."""
    ends = time.monotonic() + seconds
    for measured in (kills.restart, kills.restart_while_it_creates):
        await asyncio.sleep(stage.chance.uniform(0.3, 2.0))
        await measured(stage, 0, stage.kills)
    while time.monotonic() < ends:
        await asyncio.sleep(stage.chance.uniform(0.3, 2.0))
        await stage.restart(stage.chance.randrange(stage.scenario.processes))


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
        _RECONNECTS_WITHIN,
        "resumes without PostgreSQL",
    )
    await asyncio.sleep(seconds / 4)
    await stage.servers.postgres.start()
    await asyncio.gather(*starting)
    for bot in stage.bots.running:
        await until(lambda bot=bot: bot.events["routes_loaded"], _RECONNECTS_WITHIN, "routes")
    await asyncio.sleep(seconds / 4)


async def reconnect_storm(stage: Stage, seconds: float) -> None:
    """Op 7, again and again, also during the handshakes."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        await asyncio.sleep(stage.chance.uniform(0.05, 0.6))
        stage.sim.reconnect()


async def invalid_resumable(stage: Stage, seconds: float) -> None:
    """Op 9 with `d: true`."""
    for _ in range(3):
        await asyncio.sleep(seconds / 4)
        await _resumed_after(stage, lambda: stage.sim.invalidate(resumable=True), "op 9 true")


async def invalid(stage: Stage, seconds: float) -> None:
    """Op 9 with `d: false`."""
    for _ in range(2):
        await asyncio.sleep(seconds / 3)
        await _identified_after(stage, lambda: stage.sim.invalidate(resumable=False), "op 9 false")


def closed(code: int, *, new_session: bool = False) -> Faults:
    """Discord closes with a code."""

    async def faults(stage: Stage, seconds: float) -> None:
        after = _identified_after if new_session else _resumed_after
        for _ in range(2):
            await asyncio.sleep(seconds / 3)
            await after(stage, lambda: stage.sim.close(code), f"close {code}")

    return faults


async def dropped(stage: Stage, seconds: float) -> None:
    """TCP resets: 1006."""
    for _ in range(4):
        await asyncio.sleep(seconds / 5)
        await _resumed_after(stage, stage.sim.drop, "a reset")


async def half_open(stage: Stage, seconds: float) -> None:
    """TCP stands and nothing comes, not even heartbeat ACKs."""
    for _ in range(2):
        await asyncio.sleep(seconds / 4)
        await _resumed_after(stage, stage.sim.half_open, "a half-open socket")


async def dead_resume_url(stage: Stage, seconds: float) -> None:
    """The resume URL refuses, then hangs; the normal one works."""
    for how in ("drop", "hang"):
        await asyncio.sleep(seconds / 4)
        stage.sim.refuse_resume_url(how=how)
        await _resumed_after(stage, stage.sim.drop, f"a reset with a resume URL that {how}s")
        stage.sim.refuse_resume_url(False)


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
        await until(lambda host=host: host.events["shard_joined"], _RECONNECTS_WITHIN, "the plugin's turn")
        stage.one_more_identify()
        await stage.start(0)
        bot = stage.places[0]
        await until(
            lambda bot=bot: bot.events["publishing_stands_by"], _RECONNECTS_WITHIN, "a bot that stands by"
        )
        await stage.sim.wait_for(lambda: sum(1 for s in stage.sim.sessions if s.connected) == _BOTH)
        await _covered(stage)
        await stage.bots.kill(host)
        await until(lambda bot=bot: bot.events["shard_joined"], _RECONNECTS_WITHIN, "the bot's turn")
        await stage.start_host()


async def _covered(stage: Stage) -> None:
    """Return when all that happened until now is stored: who stands by has the rest."""
    connection = await asyncpg.connect(stage.servers.database_url)
    try:
        now = await connection.fetchval("SELECT clock_timestamp()")
        async with asyncio.timeout(_RECONNECTS_WITHIN):
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
    await until(lambda: process.events["shard_lost"], _RECONNECTS_WITHIN, "the loss of its shards")
    await asyncio.sleep(seconds / 2)
    stage.way.mend()
    await until(lambda: process.events["leases_confirmed"], _RECONNECTS_WITHIN, "its return")
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


async def everything(stage: Stage, seconds: float) -> None:
    """Faults of all kinds at random, several at once."""
    ends = time.monotonic() + seconds
    chance, sim = stage.chance, stage.sim

    async def repeat(pause: tuple[float, float], act: Callable[[], Awaitable[object] | None]) -> None:
        while True:
            await asyncio.sleep(chance.uniform(*pause))
            acted = act()
            if acted is not None:
                await acted

    def reset() -> None:
        sim.drop(chance.randrange(stage.scenario.shards))

    def reconnect() -> None:
        sim.reconnect()

    def end_session() -> None:
        stage.one_more_identify()
        if chance.random() < 0.5:
            sim.close(4009)
        else:
            sim.invalidate(resumable=False)

    def close() -> None:
        sim.close(chance.choice([4000, 4008]))

    async def slow() -> None:
        stage.taps[0].delay = 2.0
        await asyncio.sleep(3)
        stage.taps[0].delay = 0.0

    kinds: list[tuple[tuple[float, float], Callable[[], Awaitable[object] | None]]] = [
        ((2, 8), reset),
        ((3, 9), reconnect),
        ((5, 15), close),
        ((25, 45), end_session),
        ((6, 15), lambda: stage.restart(chance.randrange(stage.scenario.processes))),
        ((20, 40), lambda: stage.outage(stage.nats[0], chance.uniform(1, 8))),
        ((10, 30), lambda: stage.outage(stage.servers.valkey, chance.uniform(1, 8))),
        ((10, 30), lambda: stage.outage(stage.servers.postgres, chance.uniform(1, 8))),
        ((15, 30), slow),
    ]
    tasks = [asyncio.create_task(repeat(pause, act)) for pause, act in kinds]
    try:
        while time.monotonic() < ends:
            await asyncio.sleep(0.1)
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await _heal(stage)


async def _heal(stage: Stage) -> None:
    """Bring back whatever a fault that was cut off has left away."""
    stage.taps[0].delay = 0.0
    for server in (stage.servers.postgres, stage.servers.valkey, *stage.nats):
        if not server.running:
            await server.start()
    for number in range(stage.scenario.processes):
        await stage.start(number)
    if len(stage.bots.running) != stage.scenario.processes:
        raise ChaosError(f"{len(stage.bots.running)} processes run")


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("bot killed", bot_killed),
        Scenario("nats killed", nats_killed, least=14),
        Scenario("one nats node of three killed", nats_node_killed, nats_nodes=3, rate=400),
        Scenario("redis killed", redis_killed),
        Scenario("bot and redis killed", bot_and_redis_killed),
        Scenario("postgres killed", postgres_killed),
        Scenario(
            "started without postgres", started_without_postgres, fixed_shards=False, shards=2, processes=2
        ),
        Scenario("op 7 storm", reconnect_storm),
        Scenario("op 9 true", invalid_resumable),
        Scenario("op 9 false", invalid),
        Scenario("close 4000", closed(4000)),
        Scenario("close 4007", closed(4007, new_session=True)),
        Scenario("close 4008", closed(4008)),
        Scenario("close 4009", closed(4009, new_session=True)),
        Scenario("close 1006", dropped),
        Scenario("half-open socket", half_open, heartbeat_ms=1500),
        Scenario("dead resume url", dead_resume_url, least=20),
        Scenario("registrations at 20/s", nothing, commands=20, guilds=80),
        Scenario("lives of sandboxes at 20/s", nothing, commands=20, lives=True, guilds=80),
        Scenario("registrations, 3 processes", nothing, commands=20, guilds=80, shards=3, processes=3),
        Scenario("process frozen", process_frozen, commands=4, guilds=80, shards=3, processes=3),
        Scenario("stale route cache", stale_cache, commands=8, guilds=80, shards=2, processes=2),
        Scenario(
            "cut off from postgres",
            cut_off,
            fixed_shards=False,
            proxied=True,
            guilds=80,
            shards=4,
            processes=2,
        ),
        Scenario("rolling restart", rolling_restart, fixed_shards=False, shards=2),
        Scenario(
            "plugin beside standalone", plugin_beside, rate=300, fixed_shards=False, plugin=True, least=40
        ),
        Scenario("disk full on nats", disk_full),
        Scenario("slow nats", slow_nats),
        Scenario("everything at once", everything, guilds=160, shards=2, processes=2, least=120),
    )
}
