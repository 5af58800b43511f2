"""Events that were made, as a worker and an ordinary bot in the sandbox get them."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from functools import partial
from typing import Any

import discord
import pytest

from sandbox_bot.cli._guild_facts import guild_facts
from sandbox_core.context import SandboxContext, environment
from sandbox_core.errors import DoesNotFit, GuildNotRegistered, NotPermitted, SandboxNotRunning
from sandbox_core.models import Sandbox
from sandbox_core.nats.delivered import Event
from sandbox_core.workbench.emitting import Emitter, Stored, guild_to_use, make
from sandbox_core.workbench.fixtures import Found, Scene, Snowflakes, fill, load, names, parse_change
from sandbox_core.workbench.fixtures.changes import MOST_BYTES

from .pybot import Listener, running
from .stage import ALICE, BOB, Process, Stage, until

EMITTABLE = [name for name in names() if load(name).emittable]


async def emitted(
    stage: Stage, sandbox: Sandbox, *types: str, changes: tuple[str, ...] = (), count: int = 1
) -> list[Stored]:
    """Make these events in the sandbox's first server, as the command does."""
    emitter = Emitter(stage.core.manager, stage.core.writing)
    found, problem = await guild_facts(stage.settings, sandbox, guild_to_use(sandbox, None))
    assert problem == ""
    scene, ids = Scene(found), Snowflakes()
    stored: list[Stored] = []
    for name in types:
        data = partial(fill, load(name).data, scene, ids)
        wanted = [parse_change(change) for change in changes]
        stored += [each async for each in emitter.emit(sandbox, name, data, changes=wanted, count=count)]
    return stored


async def taken(context: SandboxContext, many: int) -> list[Event]:
    """What a worker gets."""
    events: list[Event] = []
    async with asyncio.timeout(20), aclosing(context.events()) as coming:
        async for event in coming:
            events.append(event)
            if len(events) == many:
                break
    return events


def worker(stage: Stage, sandbox: Sandbox) -> Any:
    return SandboxContext.from_env(environment(sandbox) | stage.core.manager.credentials(sandbox))


async def test_a_worker_gets_every_type(stage: Stage) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    before = (await stage.core.js.stream_info("EVENTS")).state.messages
    async with worker(stage, mine) as context:
        stored = await emitted(stage, mine, *EMITTABLE)
        events = await taken(context, len(EMITTABLE))
    assert [event.type for event in events] == EMITTABLE
    assert [event.raw for event in events] == [each.event.frame for each in stored]
    assert [each.number for each in stored] == sorted({each.number for each in stored})
    guildless = {event.type for event in events if event.guild_id is None}
    assert guildless == {f"SUBSCRIPTION_{what}" for what in ("CREATE", "UPDATE", "DELETE")} | {"USER_UPDATE"}
    assert {event.guild_id for event in events} == {None, str(guild.id)}
    for event in events:
        assert event.headers["Sandbox-Origin"] == "emitted"
        assert event.headers["Sandbox-Id"] == str(mine.id)
        assert event.headers["Discord-Event"] == event.type
        assert event.headers["Nats-Msg-Id"].startswith("emit:")
    assert len({event.headers["Nats-Msg-Id"] for event in events}) == len(events)
    message = next(event for event in events if event.type == "MESSAGE_CREATE")
    assert message.data["channel_id"] == str(guild.default_channel.id)
    assert message.data["author"]["id"] == str(guild.owner.id)
    # Production gets nothing of it.
    assert (await stage.core.js.stream_info("EVENTS")).state.messages == before


class Noting(Listener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[discord.Message] = []
        self.raw: list[str] = []

    async def on_message(self, message: discord.Message) -> None:
        self.messages.append(message)

    async def on_socket_event_type(self, event_type: str) -> None:
        self.raw.append(event_type)


@pytest.mark.usefixtures("discord_untouched")
async def test_an_unmodified_bot_hears_them(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    bot = Noting()
    async with running(stage.token(mine), process, bot):
        await until(lambda: bot.visible == {guild.id})
        bot.raw.clear()
        await emitted(stage, mine, "MESSAGE_CREATE", changes=("d.content=hello",), count=3)
        await until(lambda: len(bot.messages) == 3)
        assert {message.content for message in bot.messages} == {"hello"}
        assert len({message.id for message in bot.messages}) == 3
        first = bot.messages[0]
        assert first.guild is not None
        assert (first.guild.id, first.channel.id) == (guild.id, guild.default_channel.id)
        assert isinstance(first.author, discord.Member)
        assert abs((discord.utils.utcnow() - first.created_at).total_seconds()) < 60
        # The server's end comes last: nothing happens in it afterwards.
        last = [name for name in EMITTABLE if name != "GUILD_DELETE"]
        bot.raw.clear()
        await emitted(stage, mine, *last, "GUILD_DELETE")
        await until(lambda: bot.raw[-1:] == ["GUILD_DELETE"])
        assert bot.raw == [*last, "GUILD_DELETE"]
        # The connection has lived through all of it.
        assert bot.identified == 1
        assert not bot.is_closed()


async def test_what_is_refused(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    await stage.sandbox("theirs", stage.guilds[1], owner=BOB)
    foreign = str(stage.guilds[1].id)
    emitter = Emitter(stage.core.manager, stage.core.writing)
    with pytest.raises(NotPermitted):
        await emitter.sandbox(BOB, "mine")
    with pytest.raises(GuildNotRegistered):
        guild_to_use(mine, foreign)
    for name, change in (
        ("MESSAGE_CREATE", f'd.guild_id="{foreign}"'),
        ("GUILD_UPDATE", f'd.id="{foreign}"'),
        ("RATE_LIMITED", f'd.meta.guild_id="{foreign}"'),
    ):
        with pytest.raises(GuildNotRegistered) as refused:
            await emitted(stage, mine, name, changes=(change,))
        assert refused.value.sandbox_name == "mine"
    for name, change in (
        ("GUILD_ROLE_CREATE", "d.guild_id=null"),
        ("MESSAGE_CREATE", "d.guild_id=x"),
        ("RATE_LIMITED", "d.meta=null"),
        ("MESSAGE_CREATE", f"d.content={'x' * MOST_BYTES}"),
        ("MESSAGE_CREATE", "d.position=1e999"),
    ):
        with pytest.raises(DoesNotFit):
            await emitted(stage, mine, name, changes=(change,))
    assert (await stage.core.writing.stream(mine.id)).slot is not None
    await stage.core.pool.execute("UPDATE sandboxes SET expires_at = now() WHERE id = $1", mine.id)
    with pytest.raises(SandboxNotRunning):
        await emitter.sandbox(ALICE, "mine")
    data = partial(fill, load("MESSAGE_CREATE").data, Scene(Found(guild_id=foreign)), Snowflakes())
    expired = await stage.core.manager.get("mine")
    with pytest.raises(SandboxNotRunning):
        assert [each async for each in emitter.emit(expired, "MESSAGE_CREATE", data)] == []


async def test_a_message_in_no_server_may_be_made(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    made = make(mine, "MESSAGE_CREATE", {"id": "1", "content": "half a pair: \ud800"})
    assert made.guild_id is None
    assert "Discord-Guild-Id" not in made.headers
    assert json.loads(made.frame)["d"]["content"].endswith("\ud800")
    (stored,) = await emitted(stage, mine, "MESSAGE_CREATE", changes=("d.guild_id=null",))
    assert stored.event.guild_id is None
