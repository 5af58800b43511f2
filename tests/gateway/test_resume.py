"""A gateway session outlives the process: whoever starts next resumes it, and no event is lost."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from discord_sim import DiscordSim
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.sharding.resume_point_keys import GatewaySessions

from .conftest import read_back, until


def sent_messages(sim: DiscordSim) -> dict[str, bytes]:
    """Every MESSAGE_CREATE the simulator sent, by the id its event has to be published with."""
    return {
        f"{frame.session_id}:{frame.shard}:{frame.seq}": frame.raw
        for frame in sim.sent
        if frame.type == "MESSAGE_CREATE"
    }


async def test_a_restart_resumes_and_gets_what_came_meanwhile(
    sim: DiscordSim, start_bot: Callable[[], Any], nats_url: str
) -> None:
    guild = sim.add_guild("A")
    first = await start_bot()
    sim.message(guild, content="before")
    assert await first.end(signal.SIGTERM) == 0
    for number in range(50):
        sim.message(guild, content=f"meanwhile {number}")
    second = await start_bot()
    sim.message(guild, content="after")
    delivered = await read_back(nats_url, 52)
    assert delivered.payloads == sent_messages(sim)
    assert delivered.doubled == 0
    assert (len(sim.identifies), len(sim.resumes)) == (1, 1)
    assert await second.end(signal.SIGTERM) == 0
    assert sim.sessions[0].last_client_close not in {1000, 1001}
    assert sim.unknown_requests == []


async def test_a_resumed_bot_answers_commands_and_knows_its_guilds(
    sim: DiscordSim, start_bot: Callable[[], Any]
) -> None:
    alice = sim.add_user("alice")
    cooks = sim.add_guild("Cooks", owner=alice)
    dev = sim.world.guilds[min(sim.world.guilds)]
    dev.add_member(alice, permissions=1 << 5)
    first = await start_bot()
    assert await first.end(signal.SIGTERM) == 0
    await start_bot()
    assert len(sim.identifies) == 1
    created = await sim.slash(alice, dev.default_channel, "sandbox create", name="after-restart")
    assert "after-restart" in created.text
    choices = await sim.autocomplete(
        alice, dev.default_channel, "sandbox register-guild", focused="guild", value="coo"
    )
    assert [value for _, value in choices] == [str(cooks.id)]


async def until_kept(sim: DiscordSim, redis_url: str) -> None:
    """Return when whoever starts next would find the session."""
    async with asyncio.timeout(60), Redis.from_url(redis_url) as client:
        while await GatewaySessions(client).load(sim.application_id, 0, 1) is None:
            await asyncio.sleep(0.01)


async def test_a_killed_process_loses_nothing_and_doubles_nothing(
    sim: DiscordSim, start_bot: Callable[[], Any], nats_url: str, redis_url: str
) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    print(f"seed {seed}")
    guilds = [sim.add_guild(f"G{number}") for number in range(10)]
    bot = await start_bot()
    await until_kept(sim, redis_url)
    flood = asyncio.create_task(sim.flood(3000, guilds=guilds, rate=1500, hold_disconnected=True))
    for kills in (1, 2):
        await asyncio.sleep(chance.uniform(0.2, 0.8))
        await bot.end(signal.SIGKILL)
        bot = await start_bot()
        # It stands by until the dead process's lease has lapsed.
        await until(lambda kills=kills: len(sim.resumes) == kills)
    await flood
    expected = sent_messages(sim)
    assert len(expected) == 3000
    delivered = await read_back(nats_url, 3000)
    assert delivered.payloads == expected
    assert delivered.doubled == 0
    for guild in guilds:
        seqs = [seq for guild_id, seq in delivered.order if guild_id == str(guild.id)]
        assert seqs == sorted(seqs)
    assert (len(sim.identifies), len(sim.resumes)) == (1, 2)
    assert await bot.end(signal.SIGTERM) == 0


async def test_a_session_that_discord_gave_up_is_begun_anew_and_counted(
    sim: DiscordSim, start_bot: Callable[[], Any]
) -> None:
    first = await start_bot()
    assert await first.end(signal.SIGTERM) == 0
    sim.sessions[0].alive = False
    second = await start_bot()
    await until(lambda: second.says("session_lost"))
    assert len(sim.identifies) == 2
    assert await second.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("how", ["drop", "garble"])
async def test_a_dead_resume_address_is_left_for_the_normal_one(
    sim: DiscordSim, start_bot: Callable[[], Any], how: str
) -> None:
    first = await start_bot()
    assert await first.end(signal.SIGTERM) == 0
    sim.refuse_resume_url(True, how=how)
    second = await start_bot()
    await until(lambda: second.says("resume_url_failed"))
    assert (len(sim.identifies), len(sim.resumes)) == (1, 1)
    assert await second.end(signal.SIGTERM) == 0


async def test_what_a_stop_could_not_publish_is_published_by_the_next_process(
    sim: DiscordSim, start_bot: Callable[[], Any], nats_url: str, servers: EmbeddedServers
) -> None:
    guild = sim.add_guild("A")
    first = await start_bot()
    await sim.wait_connected()
    sim.message(guild, content="before")
    await read_back(nats_url, 1)
    await servers.nats.kill()
    sim.message(guild, content="not published")
    assert await first.end(signal.SIGTERM) == 0
    await servers.nats.start()
    await start_bot()
    delivered = await read_back(nats_url, 2)
    assert delivered.payloads == sent_messages(sim)
    assert (delivered.doubled, len(sim.identifies), len(sim.resumes)) == (0, 1, 1)


async def test_a_session_is_resumed_with_the_compression_that_it_began_with(
    sim: DiscordSim, start_bot: Callable[[], Any]
) -> None:
    for how in ("refused", "zstd"):
        sim.rules.zstd = how
        bot = await start_bot()
        assert sim.rules.asked[-1] == "zlib-stream"
        assert bot.says("zstd_not_understood") == (how == "refused")
        assert await bot.end(signal.SIGTERM) == 0
    assert (len(sim.identifies), len(sim.resumes)) == (1, 1)
    # A session that Discord has ended is asked for once more; then the next one begins.
    sim.sessions[0].alive = False
    bot = await start_bot()
    await until(lambda: len(sim.identifies) == 2)
    await sim.wait_connected()
    assert sim.rules.asked[-2:] == ["zlib-stream", "zstd-stream"]
    assert await bot.end(signal.SIGTERM) == 0
    await start_bot()
    assert (len(sim.identifies), sim.rules.asked[-1]) == (2, "zstd-stream")
