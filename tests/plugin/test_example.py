"""The example in `docs/`: a host with features of its own, and all extensions in it, on the simulator."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nats
import pytest
from discord.ext import commands

from discord_sim import DiscordSim, SimGuild, SimUser
from sandbox_core.bootstrap import Core
from tests.streams import messages_of

EXAMPLE = Path(__file__).parents[2] / "docs" / "plugin_example.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plugin_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _same_modules_afterwards() -> Iterator[None]:
    """Unloading an extension forgets its modules; other tests go on with those they imported."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("sandbox_cogs")}
    yield
    sys.modules.update(before)


@pytest.fixture
def alice(sim: DiscordSim) -> SimUser:
    return sim.add_user("alice")


@pytest.fixture
def dev(sim: DiscordSim, alice: SimUser) -> SimGuild:
    return sim.add_guild("Dev", owner=alice)


@pytest.fixture
def cooks(sim: DiscordSim, alice: SimUser) -> SimGuild:
    return sim.add_guild("Cooks", owner=alice)


@pytest.fixture
async def bot(
    sim: DiscordSim, dev: SimGuild, cooks: SimGuild, environment: pytest.MonkeyPatch, example: ModuleType
) -> AsyncIterator[Any]:
    """The example's bot, connected; its `main` does no more than this."""
    environment.setenv("DISCORD_DEV_GUILD_IDS", str(dev.id))
    host = example.CommunityBot()
    running = asyncio.create_task(host.start("sim-token"))
    try:
        await wait_until(lambda: running.done() or host.is_ready())
        if running.done():
            await running
        yield host
    finally:
        await host.close()
        await asyncio.gather(running, return_exceptions=True)


async def wait_until(condition: Any, within: float = 60.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


async def host_still_works(sim: DiscordSim, bot: Any, dev: SimGuild, alice: SimUser) -> None:
    """Its text command, its slash command and its `on_message`, as before."""
    seen = bot.messages
    channel = dev.default_channel
    replies = len(said(sim, dev))
    sim.message(dev, author=alice, content="!hello")
    await sim.wait_for(lambda: len(said(sim, dev)) > replies)
    assert said(sim, dev)[-1] == "Hello alice"
    # Its own answer is a message too.
    await wait_until(lambda: bot.messages >= seen + 2)
    waved = await sim.slash(alice, channel, "wave")
    assert waved.text == "o/"


def said(sim: DiscordSim, guild: SimGuild) -> list[str]:
    there = sim.world.messages.get(guild.default_channel.id, {}).values()
    return [
        message.content
        for message in there
        if message.author is sim.bot_user and not message.interaction_metadata
    ]


async def events(nats_url: str, stream: str, guild: SimGuild) -> list[str]:
    """What was said in a guild, as one stream has it."""
    client = await nats.connect(nats_url)
    try:
        js = client.jetstream()
        stored = await messages_of(js, stream)
    finally:
        await client.close()
    frames = [json.loads(message.data) for message in stored if message.data]
    return [
        frame["d"]["content"]
        for frame in frames
        if frame["t"] == "MESSAGE_CREATE" and frame["d"].get("guild_id") == str(guild.id)
    ]


async def routed(bot: Any) -> None:
    async with asyncio.timeout(60):
        await bot.sandbox_core.router.idle()


def footprint(bot: commands.Bot) -> dict[str, object]:
    """Everything the extensions could leave behind in the bot and in the process."""
    ours = ("sandbox", "route", "nats", "publish", "upkeep")
    return {
        "attributes": sorted(vars(bot)),
        "cogs": sorted(bot.cogs),
        "extensions": sorted(bot.extensions),
        "text commands": sorted(bot.all_commands),
        "commands": sorted(command.name for command in bot.tree.get_commands()),
        "guild commands": sorted(
            str(key) for key in bot.tree._guild_commands if bot.tree._guild_commands[key]
        ),
        "listeners": {event: len(listeners) for event, listeners in bot.extra_events.items() if listeners},
        "buttons": sorted(map(str, bot._connection._view_store._dynamic_items)),
        "debug events": bot._enable_debug_events,
        "tasks": sorted(
            task.get_name() for task in asyncio.all_tasks() if any(word in task.get_name() for word in ours)
        ),
    }


async def test_the_host_goes_on_and_its_events_are_routed(
    sim: DiscordSim, bot: Any, dev: SimGuild, cooks: SimGuild, alice: SimUser, nats_url: str
) -> None:
    await host_still_works(sim, bot, dev, alice)
    created = await sim.slash(alice, dev.default_channel, "sandbox create", name="plugged-in")
    assert "plugged-in" in created.text
    # Whoever would end a server's production traffic is told so first.
    sim.message(cooks, author=alice, content="still production's")
    activity = bot.sandbox_core.router.activity
    await wait_until(lambda: activity.production_events_last_minute(str(cooks.id)) > 0)
    question = await sim.slash(
        alice, dev.default_channel, "sandbox register-guild", name="plugged-in", guild=str(cooks.id)
    )
    await sim.click(question, alice, label="Register it")
    await wait_until(lambda: bot.sandbox_core.routes.statistics()["guilds"] == 1)

    sim.message(cooks, author=alice, content="to the sandbox")
    sim.message(dev, author=alice, content="to production")
    answers = await sim.dm(sim.owner, "list")
    assert "plugged-in" in answers[0].content
    await host_still_works(sim, bot, dev, alice)
    await routed(bot)
    assert await events(nats_url, "SANDBOX", cooks) == ["to the sandbox"]
    assert await events(nats_url, "EVENTS", cooks) == ["still production's"]
    assert "to production" in await events(nats_url, "EVENTS", dev)
    assert [request.path for request in sim.unknown_requests] == []


async def test_the_hosts_own_help_is_not_the_owners(
    sim: DiscordSim, bot: Any, dev: SimGuild, alice: SimUser
) -> None:
    (theirs,) = await sim.dm(alice, "!help")
    assert "hello" in theirs.content
    (ours,) = await sim.dm(sim.owner, "help")
    assert "orphans" in ours.content
    (still_theirs,) = await sim.dm(sim.owner, "!help")
    assert still_theirs.content == theirs.content


async def test_reloading_goes_on_and_unloading_leaves_nothing(
    sim: DiscordSim,
    bot: Any,
    dev: SimGuild,
    cooks: SimGuild,
    alice: SimUser,
    nats_url: str,
    example: ModuleType,
) -> None:
    plain = example.CommunityBot()
    for extension in example.EXTENSIONS:
        await bot.reload_extension(extension)
    core: Core = bot.sandbox_core
    await host_still_works(sim, bot, dev, alice)
    created = await sim.slash(alice, dev.default_channel, "sandbox create", name="reloaded")
    assert "reloaded" in created.text
    (answer,) = await sim.dm(sim.owner, "list")
    assert "reloaded" in answer.content
    sim.message(cooks, author=alice, content="after the reload")
    await host_still_works(sim, bot, dev, alice)
    await routed(bot)
    assert await events(nats_url, "EVENTS", cooks) == ["after the reload"]

    for extension in example.EXTENSIONS:
        await bot.unload_extension(extension)
    await plain.add_cog(example.Greetings())
    left, untouched = footprint(bot), footprint(plain)
    assert left == untouched
    assert core.pool.is_closing()
    assert core.nats.client.is_closed
    await host_still_works(sim, bot, dev, alice)
    assert await sim.dm(sim.owner, "list", timeout=0.2) == []
