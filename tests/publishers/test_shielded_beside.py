"""A host is production's code also while another process publishes: it gets nothing of a registered server.

What its `on_message` got is held against what the streams have, message by message.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from discord_sim import DiscordSim, Frame, SimGuild
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.settings import load_settings
from tests.e2e.harness import eventually
from tests.gateway.conftest import BotProcess, until

from .conftest import Side, stands_by

ALICE = Actor("200000000000000001", "Alice")


@pytest.fixture
async def commands(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Core]:
    """A process that changes routes and publishes nothing, as the command line is."""
    settings = load_settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, nats_url=nats_url
    )
    async with open_core(settings, follow_routes=False, use_nats=NatsUse.SANDBOXES) as core:
        await core.manager.create(ALICE, name="box")
        yield core


def access_to(guild: SimGuild) -> GuildAccess:
    return GuildAccess(str(guild.id), bot_is_member=True, caller_manages=True)


async def divert(commands: Core, guild: SimGuild) -> tuple[str, ...]:
    """The guild's events go to the sandbox; returns the processes that have not said so in time."""
    return (await commands.manager.register_guild(ALICE, "box", access_to(guild))).unconfirmed


async def give_back(commands: Core, guild: SimGuild) -> tuple[str, ...]:
    """The guild's events go to production; returns the processes that have not said so in time."""
    return (await commands.manager.unregister_guild(ALICE, access_to(guild))).unconfirmed


def heard(host: BotProcess) -> Counter[str]:
    """The messages that the host's own code got, by their ids, and how often."""
    lines = (json.loads(line) for line in host.log if '"host_heard"' in line)
    return Counter(line["message"] for line in lines)


async def stored(side: Side) -> tuple[Counter[str], Counter[str]]:
    """The messages that production has, and that the sandbox has."""
    sides: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for event in await side.stored():
        if (event.headers or {})["Discord-Event"] == "MESSAGE_CREATE":
            sides["Sandbox-Id" in event.headers][json.loads(event.payload)["d"]["id"]] += 1
    return sides


def messages_to(sim: DiscordSim, host_session: str) -> set[str]:
    """The messages that Discord sent to the host."""
    return {
        json.loads(frame.raw)["d"]["id"]
        for frame in sim.sent
        if frame.type == "MESSAGE_CREATE" and frame.session_id == host_session
    }


async def host_has_all(side: Side, host: BotProcess, session: str) -> tuple[Counter[str], Counter[str]]:
    """What both streams have, when the host got what it is to get; it gets each once, and nothing else."""
    await side.checked()
    production, sandboxed = await stored(side)
    sent = messages_to(side.sim, session)

    async def complete() -> bool:
        return heard(host).keys() >= production.keys() & sent

    await eventually(complete, fail=False)
    got = heard(host)
    assert not [message for message, times in got.items() if times > 1]
    assert not got.keys() & sandboxed.keys()
    assert got.keys() == production.keys() & sent
    assert production.keys() | sandboxed.keys() >= sent
    return production, sandboxed


async def test_a_host_that_stands_by_gets_what_the_other_process_publishes_to_production(
    side: Side, commands: Core
) -> None:
    registered, later, *_ = side.sim.world.bot_guilds()
    bot = await side.start_bot()
    await side.published_by("standalone")
    await divert(commands, registered)
    host = await side.start_host(HOST_HEARS="1")
    await stands_by(host)
    session = side.sim.sessions[-1].session_id
    flood = side.flood(2_400)
    await flood.reached(1_000)
    await bot.end(signal.SIGKILL)
    await side.published_by("plugin")
    await until(lambda: host.says("shard_joined"))
    # It publishes now: each switch is exact, in both directions, under the flood.
    for guild in (later, registered):
        await flood.reached(flood.sent + 400)
        if guild is later:
            await divert(commands, guild)
        else:
            await give_back(commands, guild)
    await flood.reached(flood.sent + 400)
    await flood.over()
    _, sandboxed = await host_has_all(side, host, session)
    assert len(sandboxed) > 150
    assert not host.says("session_lost")


async def test_while_it_stands_by_the_host_is_on_the_right_side_from_the_commands_answer_on(
    side: Side, commands: Core
) -> None:
    """The two processes decide each by itself, so in between a few events may be on one side in each."""
    switched, *_ = side.sim.world.bot_guilds()
    await side.start_bot()
    await side.published_by("standalone")
    host = await side.start_host(HOST_HEARS="1")
    await stands_by(host)
    session = side.sim.sessions[-1].session_id
    flood = side.flood(1_000, rate=150)
    after: list[int] = []
    for switch in (divert, give_back) * 2:
        await flood.reached(flood.sent + 400)
        if not await switch(commands, switched):
            after.append(len(side.sim.sent))
        await flood.reached(flood.sent + 400)
    await flood.over()
    await side.checked()
    production, sandboxed = await stored(side)
    sent = messages_to(side.sim, session)
    text = "the last one"
    side.sim.message(switched, content=text)

    def in_guild(frames: list[Frame]) -> set[str]:
        return {
            str(json.loads(f.raw)["d"]["id"])
            for f in frames
            if f.type == "MESSAGE_CREATE" and f.session_id == session and f.guild_id == switched.id
        }

    (last,) = in_guild(side.sim.sent[-2:])
    await until(lambda: last in heard(host))
    got = heard(host)
    del got[last]
    unlike = (production.keys() & sent) ^ got.keys()
    assert unlike <= in_guild(side.sim.sent)
    assert not [message for message, times in got.items() if times > 1]
    assert after
    for begin in after:
        certain = in_guild(side.sim.sent[begin : begin + 400])
        assert len(certain) > 5
        assert not unlike & certain
    assert sandboxed


async def test_a_host_that_stands_by_loads_the_extension_anew_and_goes_on_later(
    side: Side, commands: Core
) -> None:
    registered, *_ = side.sim.world.bot_guilds()
    bot = await side.start_bot()
    await side.published_by("standalone")
    await divert(commands, registered)
    host = await side.start_host(HOST_HEARS="1", HOST_EXTENSIONS="sandbox_cogs")
    await stands_by(host)
    host.process.send_signal(signal.SIGUSR2)
    await until(lambda: host.says("host_reloaded"))
    await until(lambda: len([line for line in host.log if "publishing_stands_by" in line]) == 2)
    # Before, what it heard was its own, as the extension was not there.
    begun = heard(host)
    session = side.sim.sessions[-1].session_id
    flood = side.flood(1_600)
    await flood.reached(600)
    await bot.end(signal.SIGTERM)
    await until(lambda: host.says("shard_joined"))
    await flood.over()
    assert not begun
    _, sandboxed = await host_has_all(side, host, session)
    assert len(sandboxed) > 100
    assert not host.says("session_lost")
