"""Over the wire: an ephemeral message's events come on shard 0, and its guild is another process's."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from discord_sim import DiscordSim, Frame, SimGuild
from discord_sim.snowflake import shard_of
from discord_sim.world.messages import SimMessage
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.settings import load_settings
from tests.streams import messages_of

from .conftest import StartProcess, until

SHARDS = 2
ALICE = Actor("200000000000000001", "Alice")
FIRST, SECOND = (
    {"DISCORD_SHARD_IDS": str(shard), "DISCORD_SHARD_COUNT": str(SHARDS)} for shard in range(SHARDS)
)


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    async with DiscordSim(record=True, replay_limit=10_000, shards=SHARDS) as running:
        yield running


@pytest.fixture
async def commands(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Core]:
    """A process that changes routes and publishes nothing."""
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


def on_shard_1(sim: DiscordSim) -> SimGuild:
    while shard_of((guild := sim.add_guild("A")).id, SHARDS) != 1:
        pass
    return guild


async def map_it(commands: Core, guild: SimGuild) -> None:
    access = GuildAccess(str(guild.id), bot_is_member=True, caller_manages=True)
    await commands.manager.create(ALICE, name="mine", guilds=[access])


def whole_life(sim: DiscordSim, guild: SimGuild) -> list[Frame]:
    """An ephemeral message is made, edited and deleted: what Discord sends of it."""
    message = SimMessage(sim.world.snowflakes.next(), guild.default_channel, sim.world.bot, flags=64)
    gone = {"id": str(message.id), "channel_id": str(guild.default_channel.id)}
    events: list[tuple[str, dict[str, Any]]] = [
        ("MESSAGE_CREATE", message.event()),
        ("MESSAGE_UPDATE", message.event()),
        ("MESSAGE_DELETE", gone),
    ]
    frames = [frame for event_type, data in events for frame in sim.emit(event_type, data)]
    assert [(frame.shard, frame.guild_id) for frame in frames] == [(0, None)] * 3
    return frames


def side_of(subject: str) -> str:
    return "sandbox" if subject.startswith("sandbox.") else subject.rsplit(".", 1)[0]


async def sides_of(reader: Client, frames: list[Frame]) -> list[str]:
    """Where each of these is, when all are stored; they are in order on each side."""
    wanted = {f"{frame.session_id}:{frame.shard}:{frame.seq}": frame for frame in frames}
    js = reader.jetstream()
    async with asyncio.timeout(60):
        while True:
            found: dict[str, str] = {}
            for stream in ("EVENTS", "SANDBOX"):
                for stored in await messages_of(js, stream):
                    identity = (stored.headers or {})["Nats-Msg-Id"]
                    if identity in wanted:
                        assert identity not in found
                        assert stored.data == wanted[identity].raw
                        assert stored.subject is not None
                        found[identity] = side_of(stored.subject)
            if len(found) == len(wanted):
                in_stream = list(found)
                for side in set(found.values()):
                    own = [identity for identity in in_stream if found[identity] == side]
                    assert own == [identity for identity in wanted if found[identity] == side]
                return [found[identity] for identity in wanted]
            await asyncio.sleep(0.05)


def questions(sim: DiscordSim, channel_id: int) -> int:
    return sum(r.method == "GET" and r.path.endswith(f"/channels/{channel_id}") for r in sim.requests)


async def test_an_ephemeral_message_goes_to_the_sandbox_of_another_process_s_guild(
    sim: DiscordSim, start_bot: StartProcess, commands: Core, reader: Client
) -> None:
    guild = on_shard_1(sim)
    await start_bot(**FIRST)
    await start_bot(**SECOND)
    await map_it(commands, guild)
    frames = whole_life(sim, guild)
    assert await sides_of(reader, frames) == ["sandbox"] * 3


async def test_discord_tells_whose_a_channel_is_and_what_it_does_not_tell_is_on_neither_side(
    sim: DiscordSim, start_bot: StartProcess, commands: Core, reader: Client
) -> None:
    guild, left = on_shard_1(sim), sim.add_guild("left", with_bot=False)
    friend = sim.world.dm_channel(sim.add_user("friend"))
    # Nobody runs shard 1, so nobody was told of the guild's channels.
    await start_bot(**FIRST)
    await map_it(commands, guild)
    mapped = whole_life(sim, guild)
    strange = whole_life(sim, left)
    direct = sim.emit("MESSAGE_DELETE", {"id": "1", "channel_id": str(friend.id)})
    assert await sides_of(reader, mapped) == ["sandbox"] * 3
    assert await sides_of(reader, strange) == ["events.unattributed"] * 3
    assert await sides_of(reader, direct) == ["events"]
    channels = (guild.default_channel.id, left.default_channel.id, friend.id)
    assert [questions(sim, channel_id) for channel_id in channels] == [1, 1, 1]


async def test_events_in_doubt_are_replayed_to_a_process_that_knows_no_channels(
    sim: DiscordSim, start_bot: StartProcess, commands: Core, reader: Client
) -> None:
    guild = on_shard_1(sim)
    first = await start_bot(**FIRST)
    await map_it(commands, guild)
    async with asyncio.timeout(60):
        while await commands.resume_points.load(sim.application_id, 0, SHARDS) is None:
            await asyncio.sleep(0.01)
    await first.end(signal.SIGKILL)
    frames = whole_life(sim, guild)
    await start_bot(**FIRST)
    await until(lambda: len(sim.resumes) == 1)
    assert await sides_of(reader, frames) == ["sandbox"] * 3
    assert len(sim.identifies) == 1
