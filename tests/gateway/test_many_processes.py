"""Several bot processes share an application's shards, and hand sessions over without losing an event."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import nats
import pytest

from discord_sim import DiscordSim, SimGuild, SimUser
from discord_sim.snowflake import shard_of
from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.tour.readback import compare, read_streams, stored_count
from tests.e2e.harness import Flood, Sides
from tests.event_path.proxy import proxied

from .conftest import BotProcess, StartProcess, until

SHARDS = 4


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    """Four shards, which may all identify at once, but each only every five seconds."""
    async with DiscordSim(
        record=True,
        replay_limit=100_000,
        shards=SHARDS,
        max_concurrency=SHARDS,
        enforce_identify_limit=True,
    ) as running:
        yield running


class Team:
    """The world that the processes share, and where its events belong."""

    def __init__(self, sim: DiscordSim, start: StartProcess, nats_url: str) -> None:
        self.sim = sim
        self.start = start
        self.sides = Sides(sim)
        self.alice: SimUser = sim.add_user("alice")
        self.dev = sim.world.guilds[min(sim.world.guilds)]
        self.dev.add_member(self.alice, permissions=1 << 5)
        self.guilds = [sim.add_guild(f"G{number}", owner=self.alice) for number in range(24)]
        self._nats_url = nats_url

    async def connected(self, shards: int = SHARDS) -> None:
        """Return when so many shards are connected."""
        await until(lambda: len({s.shard for s in self.sim.sessions if s.connected}) >= shards)

    async def map_one(self, guild: SimGuild) -> None:
        """Put a guild into a new sandbox."""
        created = await self.sim.slash(
            self.alice, self.dev.default_channel, "sandbox create", name="box", timeout=20
        )
        (sandbox_id,) = {
            word
            for word in created.text.replace("`", " ").split()
            if len(word) == 36 and word.count("-") == 4
        }
        self.sides.set(guild, None, sandbox_id)
        result = await self.sim.slash(
            self.alice,
            self.dev.default_channel,
            "sandbox register-guild",
            name="box",
            guild=str(guild.id),
            timeout=20,
        )
        if "away from production" in result.text:
            result = await self.sim.click(result, self.alice, label=result.buttons[0]["label"])
        await result.wait_until(lambda r: "Server registered" in r.text, timeout=60)
        self.sides.set(guild, sandbox_id)

    async def checked(self) -> None:
        """Make sure that both streams hold exactly what Discord sent, each event where it belongs."""
        client = await nats.connect(self._nats_url)
        try:
            js = client.jetstream()
            wanted = sum(1 for event in self.sides.expected() if event.sides)
            async with asyncio.timeout(60):
                while await stored_count(js) < wanted:
                    await asyncio.sleep(0.05)
            result = compare(self.sides.expected(), await read_streams(js))
        finally:
            await client.close()
        assert not result.faults, result
        assert result.delivered == result.expected == wanted


@pytest.fixture
def team(sim: DiscordSim, start_bot: StartProcess, nats_url: str) -> Team:
    """Nobody has started yet."""
    return Team(sim, start_bot, nats_url)


async def readiness(bot: BotProcess) -> tuple[int, dict[str, object]]:
    """What a process says of itself."""
    async with aiohttp.ClientSession() as http, http.get(f"{bot.ops_url}/readyz") as response:
        return response.status, json.loads(await response.text())


async def runs(bot: BotProcess, count: int) -> None:
    """Return when the process has so many shards connected."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{bot.ops_url}/metrics") as response:
                text = await response.text()
            lines = [line for line in text.splitlines() if line.startswith("sandbox_gateway_connected{")]
            if sum(line.endswith(" 1.0") for line in lines) == count:
                return
            await asyncio.sleep(0.05)


async def until_in_flight(bot: BotProcess) -> None:
    """Return when the process has an event that is not acknowledged."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{bot.ops_url}/metrics") as response:
                text = await response.text()
            if re.search(r"^sandbox_gateway_inflight [1-9]", text, re.MULTILINE):
                return
            await asyncio.sleep(0.05)


async def test_a_second_process_takes_its_share_by_resuming(team: Team) -> None:
    first = await team.start()
    await team.connected()
    await runs(first, SHARDS)
    await team.map_one(team.guilds[0])
    flood = Flood(team.sim, 1_200, rate=200)
    second = await team.start()
    await runs(second, SHARDS // 2)
    await runs(first, SHARDS // 2)
    await flood.over()
    await team.checked()
    assert (len(team.sim.identifies), len(team.sim.resumes)) == (SHARDS, SHARDS // 2)
    assert not any(identify.too_soon for identify in team.sim.identifies)
    assert await first.end(signal.SIGTERM) == 0
    await runs(second, SHARDS)
    assert await second.end(signal.SIGTERM) == 0
    assert {s.last_client_close for s in team.sim.sessions} == {4000}


async def test_every_command_is_answered_by_one_process_only(team: Team) -> None:
    bots = [await team.start(), await team.start()]
    for bot in bots:
        await runs(bot, SHARDS // 2)
    everywhere = {shard_of(guild.id, SHARDS): guild for guild in team.guilds}
    assert len(everywhere) == SHARDS
    await team.sim.dm(team.sim.owner, "status", timeout=60)
    before = len(team.sim.requests)
    for _ in range(3):
        answer = await team.sim.slash(team.alice, team.dev.default_channel, "sandbox list", timeout=60)
        assert answer.text
    replies = await team.sim.dm(team.sim.owner, "status", timeout=60)
    assert len(replies) == 1
    answered = Counter(
        request.path for request in team.sim.requests[before:] if request.path.endswith("/callback")
    )
    assert len(answered) == 3
    assert set(answered.values()) == {1}


async def test_a_dead_process_s_shards_are_resumed_within_15_seconds(team: Team) -> None:
    first, second = await team.start(), await team.start()
    for bot in (first, second):
        await runs(bot, SHARDS // 2)
    handed_over = len(team.sim.resumes)
    flood = Flood(team.sim, 1_200, rate=200)
    await flood.reached(200)
    died_at = team.sim.clock()
    await first.end(signal.SIGKILL)
    await until(lambda: len(team.sim.resumes) == handed_over + SHARDS // 2)
    assert max(resume.at for resume in team.sim.resumes) - died_at < 15
    await flood.over()
    await team.checked()
    assert len(team.sim.identifies) == SHARDS
    assert all(resume.replayed is not None for resume in team.sim.resumes)
    await runs(second, SHARDS)


@pytest.mark.parametrize("settings", [{}, {"DISCORD_SHARD_COUNT": "4"}], ids=["leased", "fixed"])
async def test_a_rolling_restart_resumes_and_loses_nothing(team: Team, settings: dict[str, str]) -> None:
    old = await team.start(**settings)
    await runs(old, SHARDS)
    await team.map_one(team.guilds[0])
    flood = Flood(team.sim, 1_200, rate=200)
    await flood.reached(120)
    new = await team.start(**settings)
    if settings:
        said = str((await readiness(new))[1]["gateway"])
        assert said.startswith("standing by: shards 0, 1, 2, 3 are published by the standalone bot ")
        assert said.endswith(f":{old.process.pid}")
    assert await old.end(signal.SIGTERM) == 0
    await runs(new, SHARDS)
    await flood.over()
    await team.checked()
    assert len(team.sim.identifies) == SHARDS
    assert all(resume.replayed is not None for resume in team.sim.resumes)
    assert all(session.alive for session in team.sim.sessions)


async def test_postgresql_away_changes_nothing_for_those_who_run(
    team: Team, servers: EmbeddedServers
) -> None:
    first, second = await team.start(), await team.start()
    for bot in (first, second):
        await runs(bot, SHARDS // 2)
    before = len(team.sim.resumes)
    await servers.postgres.kill()
    for bot in (first, second):
        await until(lambda bot=bot: bot.says("leases_not_renewed"))
    flood = Flood(team.sim, 800, rate=100)
    # Longer than a lease: nobody takes anything from anybody, then or when it is back.
    await flood.reached(800)
    await team.sim.reconnect()
    await until(lambda: len(team.sim.resumes) == before + SHARDS)
    await servers.postgres.start()
    for bot in (first, second):
        await until(lambda bot=bot: bot.says("leases_confirmed"))
    await flood.over()
    await team.checked()
    assert len(team.sim.resumes) == before + SHARDS
    assert len(team.sim.identifies) == SHARDS


async def test_a_process_that_was_frozen_lets_go_of_what_others_took(team: Team) -> None:
    first, second = await team.start(), await team.start()
    for bot in (first, second):
        await runs(bot, SHARDS // 2)
    flood = Flood(team.sim, 1_200, rate=120)
    first.process.send_signal(signal.SIGSTOP)
    await runs(second, SHARDS)
    first.process.send_signal(signal.SIGCONT)
    await until(lambda: first.says("shard_lost"))
    for bot in (first, second):
        await runs(bot, SHARDS // 2)
    await flood.over()
    await team.checked()
    assert len(team.sim.identifies) == SHARDS


async def test_a_process_cut_off_from_postgresql_alone_stops_when_its_shards_are_taken(
    team: Team, database_url: str
) -> None:
    async with proxied(database_url) as (proxy, through_it):
        first, second = await team.start(DATABASE_URL=through_it), await team.start()
        for bot in (first, second):
            await runs(bot, SHARDS // 2)
        await team.map_one(team.guilds[0])
        before = len(team.sim.resumes)
        flood = Flood(team.sim, 2_400, rate=120)
        proxy.cut()
        # Told by the one that takes them: it hears nothing from the database.
        await until(lambda: first.says("shard_lost"))
        await runs(first, 0)
        await runs(second, SHARDS)
        await flood.over()
        await team.checked()
        assert not first.says("leases_confirmed")
        # Neither took a session from the other again.
        assert len(team.sim.resumes) == before + SHARDS // 2
        assert all(resume.replayed is not None for resume in team.sim.resumes)
        assert len(team.sim.identifies) == SHARDS
        proxy.mend()
        for bot in (first, second):
            await runs(bot, SHARDS // 2)


async def test_a_shard_whose_events_are_not_stored_is_not_handed_over(team: Team, nats_url: str) -> None:
    first = await team.start()
    await runs(first, SHARDS)
    # A stream that gets a limit below what it has would remove the oldest.
    await team.checked()
    client = await nats.connect(nats_url)
    try:
        js = client.jetstream()
        config = (await js.stream_info("EVENTS")).config
        # A stream that takes no more: refused events wait, while NATS itself is there.
        count = (await js.stream_info("EVENTS")).state.messages
        await js.update_stream(config, max_msgs=count, discard="new")
        flood = Flood(team.sim, 500, rate=500)
        await flood.reached(500)
        await flood.over()
        second = await team.start()
        await until(lambda: first.says("not_handed_over_with_events_unacknowledged"))
        assert not first.says("shard_lost")
        await js.update_stream(config)
        await runs(first, SHARDS)
        await team.checked()
        await runs(second, 0)
    finally:
        await client.close()
    assert len(team.sim.identifies) == SHARDS


async def test_a_second_sigterm_ends_at_once(team: Team, servers: EmbeddedServers) -> None:
    bot = await team.start()
    await runs(bot, SHARDS)
    await servers.nats.kill()
    team.sim.message(team.guilds[0], content="can't be published")
    # A stop reads nothing that it has not received by then.
    await until_in_flight(bot)
    bot.process.send_signal(signal.SIGTERM)
    # It waits for NATS to take the message.
    await until(lambda: all(not session.connected for session in team.sim.sessions))
    assert await bot.end(signal.SIGTERM) == -signal.SIGTERM
    assert bot.says("stopped_at_once")
