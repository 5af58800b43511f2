"""The owner's commands on the wire: the standalone bot, the simulator, and what JetStream has in the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest

from discord_sim import DiscordSim, SimGuild
from sandbox_bot.client import SandboxBot
from sandbox_core.models import Actor
from sandbox_core.settings import load_settings

from .standalone import standalone_bot


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    async with DiscordSim(record=True) as running:
        yield running


@pytest.fixture
def dev(sim: DiscordSim) -> SimGuild:
    return sim.add_guild("Dev", owner=sim.owner)


@pytest.fixture
async def bot(
    sim: DiscordSim, dev: SimGuild, database_url: str, redis_url: str, nats_url: str
) -> AsyncIterator[SandboxBot]:
    """The standalone bot. No setting names its owner: that is the application's."""
    settings = load_settings(
        _env_file=None,
        database_url=database_url,
        redis_url=redis_url,
        nats_url=nats_url,
        discord_token="sim-token",
        discord_api_url=sim.api_url,
        discord_dev_guild_ids=str(dev.id),
        ops_port=0,
    )
    async with standalone_bot(settings) as running:
        yield running


async def published(bot: SandboxBot, nats_url: str) -> list[tuple[str, str, str]]:
    """Where, whose and what every message on `events.*` is, once all that was taken is acknowledged."""
    async with asyncio.timeout(60):
        await bot.sandbox_core.router.idle()
    client = await nats.connect(nats_url)
    try:
        js = client.jetstream()
        last = (await js.stream_info("EVENTS")).state.last_seq
        frames: list[Any] = [await js.get_msg("EVENTS", seq) for seq in range(1, last + 1)]
    finally:
        await client.close()
    messages = [json.loads(m.data)["d"] for m in frames if m.subject == "events.MESSAGE_CREATE"]
    return [
        ("guild" if "guild_id" in message else "dm", message["author"]["username"], message["content"])
        for message in messages
    ]


async def test_only_the_owners_commands_are_kept_from_production(
    sim: DiscordSim, dev: SimGuild, bot: SandboxBot, nats_url: str
) -> None:
    mallory = sim.add_user("mallory")
    (answer,) = await sim.dm(sim.owner, "list")
    assert answer.content == "There are no sandboxes."
    for text in ("list of guests", "!list", "hello"):
        await sim.dm(sim.owner, text, count=0)
    for text in ("list", "hello"):
        await sim.dm(mallory, text, count=0)
    sim.message(dev, author=sim.owner, content="list")
    # Its answer comes after all of these, in the order of the connection.
    await sim.dm(sim.owner, "health")

    sent = await published(bot, nats_url)
    assert [each for each in sent if each[0] == "guild"] == [("guild", sim.owner.name, "list")]
    assert [each for each in sent if each[0] == "dm" and each[1] in {sim.owner.name, "mallory"}] == [
        ("dm", sim.owner.name, "list of guests"),
        ("dm", sim.owner.name, "!list"),
        ("dm", sim.owner.name, "hello"),
        ("dm", "mallory", "list"),
        ("dm", "mallory", "hello"),
    ]
    # What the bot itself says is an event like any other.
    assert ("dm", sim.bot_user.name, "There are no sandboxes.") in sent


async def test_others_are_not_answered_at_all(sim: DiscordSim, bot: SandboxBot, nats_url: str) -> None:
    mallory = sim.add_user("mallory")
    await sim.dm(sim.owner, "health")
    before = len(sim.requests)
    for text in ("list", "destroy my-box yes", "health"):
        await sim.dm(mallory, text, count=0)
    async with asyncio.timeout(60):
        while len(await published(bot, nats_url)) < 3:
            await asyncio.sleep(0.02)
    await sim.dm(sim.owner, "list")
    (only,) = sim.requests[before:]
    assert (only.method, only.path.rsplit("/", 1)[-1]) == ("POST", "messages")
    assert only.body["content"] == "There are no sandboxes."


async def test_sync_publishes_the_commands(sim: DiscordSim, dev: SimGuild, bot: SandboxBot) -> None:
    (answer,) = await sim.dm(sim.owner, "sync")
    assert answer.content == f"🟢 Dev (`{dev.id}`): `/sandbox` is published"
    sim.fail_next("POST", r".*/commands", status=403)
    (answer,) = await sim.dm(sim.owner, "sync")
    assert answer.content.startswith(f"🔴 Dev (`{dev.id}`): Discord refused it: invite the bot")
    sim.fail_next("POST", r".*/commands", status=400)
    (answer,) = await sim.dm(sim.owner, "sync")
    assert answer.content == f"🔴 Dev (`{dev.id}`): Discord answered with status 400"


async def test_health_knows_the_gateway(sim: DiscordSim, bot: SandboxBot) -> None:
    (answer,) = await sim.dm(sim.owner, "health")
    assert answer.content.splitlines()[1].startswith("🟢 Discord: connected")


async def test_a_long_answer_is_a_file(sim: DiscordSim, bot: SandboxBot) -> None:
    for number in range(30):
        await bot.sandbox_core.manager.create(Actor(str(number), f"somebody-{number}"))
    (answer,) = await sim.dm(sim.owner, "list", timeout=60)
    assert answer.content == "**30 sandboxes**\nThe attached file has all of it."
    (file,) = answer.files
    assert file.filename == "sandboxes.txt"
