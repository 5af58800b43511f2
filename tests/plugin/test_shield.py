"""A host is production: of a registered server it gets nothing, of all others what it always got."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import discord
import pytest
from discord.ext import commands

from discord_sim import DiscordSim, SimGuild, SimTimeout, SimUser

from .every_event import stir
from .host import Choice, HostBot, connected, core_of, everything_came, register, unregister, until

GATEWAY, COMMANDS = "sandbox_cogs.gateway", "sandbox_cogs.sandbox"
ON_MESSAGE = {"on_message", "cog listener", "wait_for", "raw frame"}


def caches(bot: commands.Bot, guild: SimGuild) -> dict[str, Any]:
    """What discord.py knows of a guild."""
    known = bot.get_guild(guild.id)
    assert known is not None
    return {
        "name": known.name,
        "available": not known.unavailable,
        "channels": sorted((c.id, c.name, getattr(c, "last_message_id", None)) for c in known.channels),
        "threads": sorted((t.id, t.name, t.me is not None, len(t.members)) for t in known.threads),
        "roles": sorted((r.id, r.name) for r in known.roles),
        "members": sorted((m.id, m.display_name, str(m.status), m.voice is not None) for m in known.members),
        "count": known.member_count,
        "emojis": [(e.id, e.name) for e in known.emojis],
        "stages": sorted(s.id for s in known.stage_instances),
        "scheduled": sorted(e.id for e in known.scheduled_events),
        "sounds": sorted(s.id for s in known.soundboard_sounds),
        "messages": [(m.id, m.content) for m in bot.cached_messages if m.guild is known],
    }


async def test_every_event_of_a_registered_guild_fills_the_caches_and_tells_nobody(
    sim: DiscordSim, environment: None, guilds: tuple[SimGuild, SimGuild]
) -> None:
    sandboxed, production = guilds
    host, control = HostBot(), HostBot()
    async with connected(host, GATEWAY), connected(control):
        await register(core_of(host), sandboxed)
        for guild in guilds:
            host.forget()
            control.forget()
            names = stir(sim, guild, sim.add_user(f"guest in {guild.name}"))
            sim.message(guild, content="kept")
            sim.message(guild, content="edited", id=str(sim.world.snowflakes.next()))
            await everything_came(sim, host, control)
            # The other bot shows that each of them would have been told.
            assert len(set(control.dispatched)) == 80, sorted(set(control.dispatched))
            assert len(names) > 70
            told = control.dispatched if guild is production else control.dispatched[-len(DIRECT) :]
            assert host.dispatched == told
            assert host.heard_in(guild) == (control.heard_in(guild) if guild is production else set())
            assert caches(host, guild) == caches(control, guild)
            assert caches(host, guild)["messages"] != []
        assert len(host.cached_messages) == len(control.cached_messages)


# What a direct message brings: its frame, its event's name, and the message.
DIRECT = ("socket_raw_receive", "socket_event_type", "message")


def in_menu(sim: DiscordSim, guild: SimGuild, user: SimUser, kind: int, name: str) -> None:
    """Use a user's (2) or a message's (3) context menu; the simulator's people know slash commands only."""
    frame = next(f for f in reversed(sim.sent) if f.type == "INTERACTION_CREATE" and f.guild_id == guild.id)
    body = json.loads(frame.raw)["d"]
    message = sim.message(guild, author=user, content="the target")[0]
    target = json.loads(message.raw)["d"]
    resolved = {
        2: {"users": {str(user.id): target["author"]}},
        3: {"messages": {target["id"]: target}},
    }[kind]
    body |= {"id": str(sim.world.snowflakes.next()), "token": f"menu-{sim.world.snowflakes.next()}"}
    body["type"] = 2
    body.pop("message", None)
    body["data"] = {
        "id": "1",
        "name": name,
        "type": kind,
        "target_id": next(iter(next(iter(resolved.values())))),
        "resolved": resolved,
    }
    sim.emit("INTERACTION_CREATE", body)


@pytest.fixture
async def host(
    sim: DiscordSim, environment: pytest.MonkeyPatch, guilds: tuple[SimGuild, SimGuild]
) -> AsyncIterator[HostBot]:
    """With the gateway and the commands, which are in the registered guild, too."""
    environment.setenv("DISCORD_DEV_GUILD_IDS", ",".join(str(guild.id) for guild in guilds))
    bot = HostBot()
    async with connected(bot, GATEWAY, COMMANDS):
        from sandbox_cogs.sandbox import sync_commands

        await bot.tree.sync()
        await sync_commands(bot)
        yield bot


async def answered(action: Any) -> bool:
    try:
        await action
    except SimTimeout:
        return False
    return True


async def use_everything(
    sim: DiscordSim, host: HostBot, guild: SimGuild, alice: SimUser, shown: Any, opened: Any, *, within: float
) -> list[bool]:
    """Each of the host's features, once; which of them answered."""
    channel = guild.default_channel
    sim.message(guild, author=alice, content="!ping")
    for kind, name in ((2, "user menu"), (3, "message menu")):
        in_menu(sim, guild, alice, kind, name)
    await everything_came(sim, host)
    uses = (
        sim.slash(alice, channel, "hello", timeout=within),
        sim.click(shown, alice, label="Press", timeout=within),
        sim.click(shown, alice, label="Dynamic", timeout=within),
        sim.select(shown, alice, ["One"], timeout=within),
        sim.submit_modal(opened, alice, {"host:field": "x"}, timeout=within),
    )
    return [await answered(use) for use in uses]


USED = {
    *ON_MESSAGE,
    "prefix command",
    "user menu",
    "message menu",
    "slash command",
    "completion listener",
    "interaction listener",
    "button",
    "dynamic item",
    "select menu",
    "form",
}


async def test_commands_menus_and_views_are_deaf_in_a_registered_guild_and_ours_are_not(
    sim: DiscordSim, host: HostBot, guilds: tuple[SimGuild, SimGuild], alice: SimUser
) -> None:
    shown, opened = {}, {}
    for guild in guilds:
        channel: Any = host.get_channel(guild.default_channel.id)
        view = Choice()
        view.add_item(discord.ui.Button(label="Dynamic", custom_id="host:dynamic:7"))
        sent = await channel.send("choose", view=view)
        shown[guild] = sim.world.messages[guild.default_channel.id][sent.id]
        opened[guild] = await sim.click(shown[guild], alice, label="Form")
    sandboxed, production = guilds
    created = await sim.slash(alice, sandboxed.default_channel, "sandbox create", name="box")
    await register(core_of(host), sandboxed)
    host.forget()

    assert (
        await use_everything(sim, host, production, alice, shown[production], opened[production], within=20)
        == [True] * 5
    )
    await everything_came(sim, host)
    await until(lambda: host.heard_in(production) >= USED)
    host.forget()
    assert (
        await use_everything(sim, host, sandboxed, alice, shown[sandboxed], opened[sandboxed], within=0.3)
        == [False] * 5
    )
    await everything_came(sim, host)
    assert host.heard_in(sandboxed) == set()
    assert set(host.dispatched) == set(DIRECT)

    # Ours work there: a command, its completion of options, a button, a form.
    listed = await sim.slash(alice, sandboxed.default_channel, "sandbox list")
    assert "box" in listed.text
    offered = await sim.autocomplete(
        alice, sandboxed.default_channel, "sandbox status", focused="name", value="b"
    )
    assert offered
    form = await sim.click(created, alice, label="Extend")
    extended = await sim.submit_modal(form, alice, {"sandbox:duration": "25h"})
    assert "box" in extended.text
    await everything_came(sim, host)
    assert host.heard_in(sandboxed) == set()
    assert set(host.dispatched) == set(DIRECT)

    # What it was sent while it was registered has used up nothing: the form can still be submitted.
    await unregister(core_of(host), sandboxed)
    assert (
        await use_everything(sim, host, sandboxed, alice, shown[sandboxed], opened[sandboxed], within=20)
        == [True] * 5
    )
    await until(lambda: host.heard_in(sandboxed) >= USED)


async def test_without_the_shield_the_host_gets_everything_as_well(
    sim: DiscordSim, environment: pytest.MonkeyPatch, guilds: tuple[SimGuild, SimGuild]
) -> None:
    environment.setenv("SANDBOX_SHIELD_HOST", "false")
    host = HostBot()
    async with connected(host, GATEWAY):
        await register(core_of(host), guilds[0])
        host.forget()
        sim.message(guilds[0], content="!ping")
        await until(lambda: host.heard_in(guilds[0]) >= {*ON_MESSAGE, "prefix command"})


async def test_raw_frames_reach_only_a_host_that_had_asked_for_them(
    sim: DiscordSim, environment: None, guilds: tuple[SimGuild, SimGuild]
) -> None:
    host = HostBot(debug=False)
    async with connected(host, GATEWAY):
        sim.message(guilds[1], content="hello")
        # Its route may not be known yet; then it comes after the direct message.
        await until(lambda: host.heard_in(guilds[1]) >= ON_MESSAGE - {"raw frame"})
        await everything_came(sim, host)
        assert host.heard_in(guilds[1]) == ON_MESSAGE - {"raw frame"}
        assert "socket_raw_receive" not in host.dispatched


@pytest.mark.parametrize("registered", [True, False])
async def test_a_guild_that_is_told_of_later_goes_by_its_own_frame(
    sim: DiscordSim, environment: None, guilds: tuple[SimGuild, SimGuild], registered: bool
) -> None:
    """discord.py tells of a joined guild only when it has its members."""
    intents = discord.Intents.all()
    # With presences, small guilds come with their members.
    intents.presences = False
    host = HostBot(intents=intents)
    async with connected(host, GATEWAY):
        core = core_of(host)
        if registered:
            await register(core, guilds[0])
        host.forget()
        whole = sim.world.guild_create(guilds[0])
        del whole["unavailable"]
        whole["members"] = []
        sim.emit("GUILD_CREATE", whole)
        await everything_came(sim, host)
        # Whatever is told of it by now was decided by its frame, not by what holds now.
        if registered:
            await unregister(core, guilds[0])
        else:
            await register(core, guilds[0])
        await until(lambda: host.get_guild(guilds[0].id).chunked)  # type: ignore[union-attr]
        if not registered:
            await until(lambda: "guild_join" in host.dispatched)
        await everything_came(sim, host)
        assert ("guild_join" in host.dispatched) is not registered
