"""The button below `health`: on the wire, with the simulator, and on the sandboxes' own servers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import discord
import pytest

from discord_sim import DiscordSim, SimGuild
from sandbox_bot.client import SandboxBot
from sandbox_bot.embedded import EmbeddedServers, embedded_servers
from sandbox_bot.migrate import migrate
from sandbox_cogs.owner._isolation import isolation_button
from sandbox_core.settings import load_settings

from .standalone import standalone_bot

LABEL = "Prove the isolation"


@pytest.fixture(scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServers]:
    async with embedded_servers(tmp_path_factory.mktemp("button"), fast=True) as servers:
        await migrate(servers.database_url)
        yield servers


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    async with DiscordSim(record=True) as running:
        yield running


@pytest.fixture
def dev(sim: DiscordSim) -> SimGuild:
    return sim.add_guild("Dev", owner=sim.owner)


@pytest.fixture(params=["enforced"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def bot(
    sim: DiscordSim, dev: SimGuild, closed: EmbeddedServers, isolation: str
) -> AsyncIterator[SandboxBot]:
    settings = load_settings(
        _env_file=None,
        database_url=closed.database_url,
        redis_url=closed.redis_url,
        nats_url=closed.nats_url,
        sandbox_isolation=isolation,
        **closed.tenant_settings,
        discord_token="sim-token",
        discord_api_url=sim.api_url,
        discord_dev_guild_ids=str(dev.id),
        ops_port=0,
    )
    async with standalone_bot(settings) as running:
        yield running


def proofs() -> set[asyncio.Task[Any]]:
    """What runs now, and from now on. Loading an extension imports its modules anew."""
    running: set[asyncio.Task[Any]] = sys.modules["sandbox_cogs.owner._isolation"].IsolationPressed.running
    return running


async def press(sim: DiscordSim, who: Any, message: Any) -> Any:
    """Press the button; returns when the answer is there."""
    pressed = await sim.click(message, who, label=LABEL, timeout=60)
    await pressed.wait_until(lambda now: bool(now.embeds or now.content), timeout=60)
    return pressed


async def test_an_owner_sees_that_all_is_denied(sim: DiscordSim, bot: SandboxBot) -> None:
    (health,) = await sim.dm(sim.owner, "health")
    assert health.content.startswith("**The bot's servers: ")
    pressed = await press(sim, sim.owner, health)
    assert pressed.deferred
    (embed,) = pressed.embeds
    assert embed["title"] == "🟢 Isolated"
    assert embed["description"].startswith("All ")
    fields = {each["name"].split(" at ")[0]: each["value"] for each in embed["fields"]}
    assert list(fields) == [
        "PostgreSQL (sandboxes)",
        "Redis (sandboxes)",
        "NATS (sandboxes)",
        "SandboxContext",
        "Possible by design",
    ]
    assert all(value.startswith("🟢 ") for value in list(fields.values())[:4])
    (file,) = pressed.files
    assert file.filename == "isolation.txt"
    core = bot.sandbox_core
    assert await core.manager.list() == []
    owner = str(sim.owner.id)
    rows = await core.pool.fetch("SELECT DISTINCT actor FROM sandbox_audit_log")
    assert [row["actor"] for row in rows] == [f"{owner} for doctor"]
    # It is the bot's own, and no event of production.
    async with asyncio.timeout(60):
        await core.router.idle()
    last = await core.js.stream_info("EVENTS")
    types = [
        (await core.js.get_msg("EVENTS", number)).subject
        for number in range(last.state.first_seq, last.state.last_seq + 1)
    ]
    assert "events.INTERACTION_CREATE" not in types


async def test_others_are_refused(sim: DiscordSim, bot: SandboxBot, dev: SimGuild) -> None:
    mallory = sim.add_user("mallory")
    await sim.dm(mallory, "hello", count=0)
    user = await bot.fetch_user(mallory.id)
    sent = await user.send("look", view=isolation_button())
    pressed = await press(sim, mallory, sim_message(sim, sent))
    assert "the bot's owners, in a direct message" in pressed.content
    assert pressed.content.endswith("-# SANDBOX_010")
    assert pressed.embeds == []

    # In a server everybody would see the answer: not even an owner gets it there.
    channel = bot.get_guild(dev.id).text_channels[0]  # type: ignore[union-attr]
    sent = await channel.send("look", view=isolation_button())
    pressed = await press(sim, sim.owner, sim_message(sim, sent))
    assert pressed.ephemeral
    assert "the bot's owners, in a direct message" in pressed.content
    assert not proofs()


async def test_one_at_a_time(sim: DiscordSim, bot: SandboxBot) -> None:
    (health,) = await sim.dm(sim.owner, "health")
    first = await sim.click(health, sim.owner, label=LABEL, wait=False)
    async with asyncio.timeout(60):
        while not proofs():
            await asyncio.sleep(0.005)
    second = await press(sim, sim.owner, health)
    assert second.content == "A proof runs already; its answer comes within a minute."
    await first.wait_until(lambda now: bool(now.embeds), timeout=60)
    assert first.embeds[0]["title"] == "🟢 Isolated"


async def test_the_bot_stops_midway(sim: DiscordSim, bot: SandboxBot, closed: EmbeddedServers) -> None:
    (health,) = await sim.dm(sim.owner, "health")
    await sim.click(health, sim.owner, label=LABEL, wait=False)
    core = bot.sandbox_core
    async with asyncio.timeout(60):
        while len(await core.manager.list()) < 2:
            await asyncio.sleep(0.005)
    running = proofs()
    assert running
    await bot.unload_extension("sandbox_cogs.owner")
    assert not running
    assert await core.manager.list() == []


@pytest.mark.parametrize("isolation", ["convention"], indirect=True)
async def test_by_convention(sim: DiscordSim, bot: SandboxBot) -> None:
    (health,) = await sim.dm(sim.owner, "health")
    pressed = await press(sim, sim.owner, health)
    (embed,) = pressed.embeds
    assert embed["title"] == "🔴 Nothing is enforced"
    assert "keep apart by convention (SANDBOX_ISOLATION)" in embed["description"]
    assert pressed.files == []


async def test_a_server_is_away(sim: DiscordSim, bot: SandboxBot, closed: EmbeddedServers) -> None:
    (health,) = await sim.dm(sim.owner, "health")
    await closed.tenant_valkey.kill()
    try:
        pressed = await press(sim, sim.owner, health)
    finally:
        await closed.tenant_valkey.start()
    (embed,) = pressed.embeds
    assert embed["title"] == "🔴 Not proven"
    where = f"127.0.0.1:{closed.tenant_valkey.port}"
    assert embed["description"] == f"Redis (sandboxes) at {where} did not answer."
    fields = {each["name"]: each["value"] for each in embed["fields"]}
    assert fields[f"Redis (sandboxes) at {where}"].startswith("🔴 away: ")


def sim_message(sim: DiscordSim, sent: discord.Message) -> Any:
    """The simulator's own view of a message."""
    return sim.world.messages[sent.channel.id][sent.id]
