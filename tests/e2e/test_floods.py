"""Thousands of events in a row, while routes change and connections break: each once, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from discord_sim import DiscordSim
from tests.e2e.conftest import StartLive
from tests.e2e.harness import Flood, Live, eventually

EVENTS = 2_000


async def test_registering_and_unregistering_in_a_flood(live: Live) -> None:
    guild = live.guilds[0]
    sandbox_id = await live.create()
    flood = Flood(live.sim, EVENTS, rate=1_000)
    for done in range(200, 1_800, 400):
        await flood.reached(done)
        await live.register(guild, sandbox_id)
        # The flood may be over by then.
        live.sim.message(guild, content="in the sandbox")
        await flood.reached(done + 200)
        await live.unregister(guild, sandbox_id)
        live.sim.message(guild, content="in production")
    await flood.over()
    assert flood.sent >= EVENTS
    stored = await live.checked()
    in_sandbox = [e for e in stored if e.stream == "SANDBOX"]
    assert in_sandbox
    assert {e.headers["Discord-Guild-Id"] for e in in_sandbox} == {str(guild.id)}
    # Each switch is one cut in the guild's own order: what went to the sandbox is four unbroken runs.
    sides = {e.message_id: e.stream for e in stored}
    ids = [f"{f.session_id}:0:{f.seq}" for f in live.sim.sent if f.guild_id == guild.id]
    streams = [sides[i] for i in ids]
    assert sum(1 for one, next_ in pairwise(streams) if one != next_) == 8


@pytest.mark.parametrize("fault", ["drop", "reconnect", "close 4000", "invalidate resumable"])
async def test_a_lost_connection_is_resumed_in_a_flood(live: Live, fault: str) -> None:
    await live.mapped()
    strike: dict[str, Callable[[], Awaitable[int]]] = {
        "drop": live.sim.drop,
        "reconnect": live.sim.reconnect,
        "close 4000": lambda: live.sim.close(4000),
        "invalidate resumable": lambda: live.sim.invalidate(resumable=True),
    }
    flood = Flood(live.sim, EVENTS, rate=2_500)
    for number in range(1, 4):
        await flood.reached(number * 400)
        await strike[fault]()
        await eventually(lambda number=number: len(live.sim.resumes) >= number)
    await flood.over()
    await live.checked()
    assert len(live.sim.identifies) == 1
    assert [r.replayed is not None for r in live.sim.resumes] == [True] * 3
    (session,) = live.sim.sessions
    assert session.resume_count == 3


async def test_a_flood_that_is_faster_than_nats_is_held_back_and_not_dropped(start_live: StartLive) -> None:
    live = await start_live(router_max_pending=100)
    await live.mapped()
    await live.sim.flood(EVENTS)
    assert live.run.bot.sandbox_core.router.backlog.count <= 100
    await live.checked()
    assert len(live.sim.identifies) == 1
    assert not live.sim.resumes


async def test_two_shards_keep_their_guilds_apart(start_live: StartLive, sim: DiscordSim) -> None:
    live = await start_live(discord_shard_count=2)
    sandbox_id, _ = await live.mapped()
    await sim.flood(1_000)
    stored = await live.checked()
    for event in stored:
        guild_id = int(event.headers.get("Discord-Guild-Id", 0))
        assert int(event.headers["Discord-Shard"]) == (guild_id >> 22) % 2
    assert len([e for e in stored if e.headers.get("Sandbox-Id") == sandbox_id]) == 100
    assert {s.shard for s in sim.sessions} == {0, 1}
