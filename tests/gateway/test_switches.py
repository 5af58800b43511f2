"""A guild's route changes while bot processes are stopped or killed: no event on both sides, none lost."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from discord_sim import DiscordSim, SimGuild
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.models import Actor, GuildAccess, Sandbox
from sandbox_core.settings import load_settings
from tests.streams import names_of

from .conftest import BotProcess, StartProcess, until
from .test_resume import sent_messages

ALICE = Actor("200000000000000001", "Alice")


@pytest.fixture
async def commands(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Core]:
    """A process that changes routes and publishes nothing, as the command line is."""
    settings = load_settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, nats_url=nats_url
    )
    async with open_core(settings, follow_routes=False, use_nats=NatsUse.SANDBOXES) as core:
        yield core


@pytest.fixture
async def reader(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url)
    yield client
    await client.close()


def access_to(guild: SimGuild) -> GuildAccess:
    return GuildAccess(str(guild.id), bot_is_member=True, caller_manages=True)


async def stored(client: Client, stream: str) -> dict[str, bytes]:
    """Every MESSAGE_CREATE of a stream, or of all sandboxes' streams, by message id."""
    js = client.jetstream()
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
    found: dict[str, bytes] = {}
    for name in await names_of(js, stream):
        subscription = await js.pull_subscribe(">", stream=name, config=config)
        left = (await subscription.consumer_info()).num_pending or 0
        while left:
            messages = await subscription.fetch(min(left, 500), timeout=60)
            left -= len(messages)
            for message in messages:
                headers = message.headers or {}
                if headers["Discord-Event"] == "MESSAGE_CREATE":
                    assert headers["Nats-Msg-Id"] not in found
                    found[headers["Nats-Msg-Id"]] = message.data
        await js.delete_consumer(name, (await subscription.consumer_info()).name)
    return found


async def until_stored(reader: Client, count: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What production and the sandboxes have, when both together have so many; nothing is on both."""
    async with asyncio.timeout(60):
        while True:
            production, sandboxed = await stored(reader, "EVENTS"), await stored(reader, "SANDBOX")
            assert production.keys().isdisjoint(sandboxed)
            if len(production) + len(sandboxed) >= count:
                return production, sandboxed
            await asyncio.sleep(0.1)


async def sandbox_of(core: Core) -> Sandbox:
    return (await core.manager.create(ALICE, name="mine")).sandbox


def name_of(bot: BotProcess, named: tuple[str, ...]) -> bool:
    return [name.rsplit(":", 1)[1] for name in named] == [str(bot.process.pid)]


async def test_a_stopped_process_is_named_and_goes_on_with_the_new_side(
    sim: DiscordSim, start_bot: StartProcess, commands: Core, reader: Client
) -> None:
    guild = sim.add_guild("A")
    await sandbox_of(commands)
    bot = await start_bot()
    for number in range(20):
        sim.message(guild, content=f"before {number}")
    await until_stored(reader, 20)
    bot.process.send_signal(signal.SIGSTOP)
    try:
        for number in range(20):
            sim.message(guild, content=f"while it was stopped {number}")
        registered = await commands.manager.register_guild(ALICE, "mine", access_to(guild))
        assert name_of(bot, registered.unconfirmed)
    finally:
        bot.process.send_signal(signal.SIGCONT)
    sim.message(guild, content="after")
    production, sandboxed = await until_stored(reader, 41)
    assert (len(production), len(sandboxed)) == (20, 21)
    assert production | sandboxed == sent_messages(sim)
    # It has caught up by now, and confirms the next change.
    async with asyncio.timeout(60):
        while True:
            unregistered = await commands.manager.unregister_guild(ALICE, access_to(guild))
            if not unregistered.unconfirmed:
                break
            await commands.manager.register_guild(ALICE, "mine", access_to(guild))
    assert await bot.end(signal.SIGTERM) == 0


async def test_a_replay_after_a_crash_puts_nothing_on_both_sides(
    sim: DiscordSim, start_bot: StartProcess, commands: Core, reader: Client
) -> None:
    """It dies before its resume point is saved, and the route changes before the next process resumes."""
    moved, stays = sim.add_guild("Moved"), sim.add_guild("Stays")
    await sandbox_of(commands)
    bot = await start_bot()
    application_id = sim.application_id
    early = None
    async with asyncio.timeout(60):
        while early is None:
            early = await commands.resume_points.load(application_id, 0, 1)
    for number in range(200):
        sim.message((moved, stays)[number % 2], content=f"before {number}")
    await until_stored(reader, 200)
    await bot.end(signal.SIGKILL)
    late = await commands.resume_points.load(application_id, 0, 1)
    assert late is not None
    # As if none of the saves since had come about; by itself a point never goes back.
    await commands.resume_points.forget(application_id, 0, 1, late.session_id)
    await commands.resume_points.save(application_id, 1, {0: replace(early, saved_at=late.saved_at + 1)})
    registered = await commands.manager.register_guild(ALICE, "mine", access_to(moved))
    assert name_of(bot, registered.unconfirmed)
    for number in range(50):
        sim.message((moved, stays)[number % 2], content=f"meanwhile {number}")
    second = await start_bot()
    sim.message(moved, content="after")
    production, sandboxed = await until_stored(reader, 251)
    assert (len(production), len(sandboxed)) == (225, 26)
    assert production | sandboxed == sent_messages(sim)
    assert (len(sim.identifies), len(sim.resumes)) == (1, 1)
    (read,) = [json.loads(line) for line in second.log if "stored_events_read" in line]
    assert read["stored"] >= 200
    assert await second.end(signal.SIGTERM) == 0


async def test_routes_that_change_in_a_flood_while_processes_are_killed(
    sim: DiscordSim, start_bot: StartProcess, commands: Core, reader: Client
) -> None:
    guilds = [sim.add_guild(f"G{number}") for number in range(4)]
    await sandbox_of(commands)
    bot = await start_bot()
    flood = asyncio.create_task(sim.flood(3000, guilds=guilds, rate=400, hold_disconnected=True))
    for turn in range(3):
        await until(lambda turn=turn: len(sent_messages(sim)) > 600 * (turn + 1))  # type: ignore[misc]
        await bot.end(signal.SIGKILL)
        for guild in guilds[:2]:
            if turn % 2 == 0:
                await commands.manager.register_guild(ALICE, "mine", access_to(guild))
            else:
                await commands.manager.unregister_guild(ALICE, access_to(guild))
        bot = await start_bot()
    await flood
    production, sandboxed = await until_stored(reader, 3000)
    assert production | sandboxed == sent_messages(sim)
    assert sandboxed
    assert len(sim.identifies) == 1
    assert await bot.end(signal.SIGTERM) == 0
