"""The shield comes and goes: the bot is as it was found, also where others have wrapped the same things."""

from __future__ import annotations

import asyncio
from typing import Any

import discord
import pytest
from discord.ext import commands

from discord_sim import DiscordSim, SimGuild, SimUser
from sandbox_core.bootstrap import Core

from .host import HostBot, connected, core_of, everything_came, register, unregister, until
from .test_shield import GATEWAY, ON_MESSAGE
from .test_shield_sides import check_sides, listen


@pytest.fixture
def guilds(sim: DiscordSim) -> tuple[SimGuild, SimGuild]:
    return sim.add_guild("Sandboxed"), sim.add_guild("Production")


def traces(bot: commands.Bot) -> dict[str, Any]:
    """Everything that the shield puts something in the place of."""
    sockets = (
        [bot.ws]
        if not isinstance(bot, commands.AutoShardedBot)
        else [s._parent.ws for s in bot.shards.values()]
    )
    return {
        "attributes": sorted(vars(bot)),
        "dispatch": bot.dispatch,
        "state": dict(vars(bot._connection))["dispatch"],
        "parsers": dict(bot._connection.parsers),
        "debug events": bot._enable_debug_events,
        "sockets": [
            {name: vars(s).get(name) for name in ("_dispatch", "log_receive", "send")} for s in sockets
        ],
        "listeners": {event: list(found) for event, found in bot.extra_events.items() if found},
    }


@pytest.mark.parametrize("debug", [True, False])
async def test_unloading_restores_everything_exactly_and_reloading_works(
    sim: DiscordSim, environment: None, guilds: tuple[SimGuild, SimGuild], debug: bool
) -> None:
    host = HostBot(debug=debug)
    heard_when_told = ON_MESSAGE if debug else ON_MESSAGE - {"raw frame"}
    async with connected(host):
        before = traces(host)
        for _ in range(2):
            await host.load_extension(GATEWAY)
            await until(lambda: core_of(host).routes.current_table is not None)
            await register(core_of(host), guilds[0])
            host.forget()
            sim.message(guilds[0], content="to the sandbox")
            await everything_came(sim, host)
            assert host.heard_in(guilds[0]) == set()
            await host.reload_extension(GATEWAY)
            await until(lambda: core_of(host).routes.current_table is not None)
            sim.message(guilds[0], content="to the sandbox")
            await everything_came(sim, host)
            assert host.heard_in(guilds[0]) == set()
            await host.unload_extension(GATEWAY)
            assert traces(host) == before
            sim.message(guilds[0], content="without us everything is the host's")
            await until(lambda: host.heard_in(guilds[0]) == heard_when_told)
            await host.load_extension(GATEWAY)
            await until(lambda: core_of(host).routes.current_table is not None)
            await unregister(core_of(host), guilds[0])
            await host.unload_extension(GATEWAY)
        assert traces(host) == before


async def test_what_others_put_over_it_stays_and_goes_on(
    sim: DiscordSim, environment: None, guilds: tuple[SimGuild, SimGuild]
) -> None:
    """As a tracing library does: it wraps the bot's `dispatch`, the state's, and a parser."""
    host = HostBot()
    seen: list[str] = []
    async with connected(host):
        await host.load_extension(GATEWAY)
        await until(lambda: core_of(host).routes.current_table is not None)
        state: Any = host._connection

        def wrap(what: str, inner: Any) -> Any:
            def wrapper(*arguments: Any, **keywords: Any) -> Any:
                seen.append(what)
                return inner(*arguments, **keywords)

            return wrapper

        theirs = {
            "bot": wrap("bot", host.dispatch),
            "state": wrap("state", state.dispatch),
            "parser": wrap("parser", state.parsers["MESSAGE_CREATE"]),
        }
        host.dispatch = theirs["bot"]  # type: ignore[method-assign]
        state.dispatch = theirs["state"]
        state.parsers["MESSAGE_CREATE"] = theirs["parser"]
        for _ in range(2):
            await register(core_of(host), guilds[0])
            host.forget()
            for guild in guilds:
                sim.message(guild, content="hello")
            await everything_came(sim, host)
            assert host.heard_in(guilds[0]) == set()
            assert host.heard_in(guilds[1]) == ON_MESSAGE
            await host.unload_extension(GATEWAY)
            assert host.dispatch is theirs["bot"]
            assert state.dispatch is theirs["state"]
            assert state.parsers["MESSAGE_CREATE"] is theirs["parser"]
            seen.clear()
            host.forget()
            sim.message(guilds[0], content="everything is the host's")
            await until(lambda: host.heard_in(guilds[0]) == ON_MESSAGE)
            assert {"state", "parser"} <= set(seen)
            await host.load_extension(GATEWAY)
            await until(lambda: core_of(host).routes.current_table is not None)
            await unregister(core_of(host), guilds[0])


async def test_loaded_in_the_middle_of_connecting_no_frame_is_missed(
    sim: DiscordSim, environment: None, guilds: tuple[SimGuild, SimGuild], nats_url: str
) -> None:
    """The socket exists by then, and nobody can reach it before it has said who it is."""
    host = HostBot(debug=False)
    heard = listen(host, guilds)
    hello = asyncio.Event()
    original = discord.gateway.DiscordWebSocket.identify

    async def identify(socket: discord.gateway.DiscordWebSocket) -> None:
        hello.set()
        await asyncio.sleep(0)
        await until(lambda: GATEWAY in host.extensions)
        await original(socket)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discord.gateway.DiscordWebSocket, "identify", identify)

        async def load() -> None:
            await hello.wait()
            await host.load_extension(GATEWAY)

        loading = asyncio.create_task(load())
        async with connected(host):
            await loading
            await until(lambda: core_of(host).routes.current_table is not None)
            await register(core_of(host), guilds[0])
            for _ in range(5):
                for guild in guilds:
                    sim.message(guild, content="hello")
            assert await check_sides(sim, host, heard, nats_url) == (0, 5)
            assert len(heard[guilds[1]]) == 5


@pytest.mark.parametrize("fault", ["reconnect", "drop", "invalidate"])
async def test_over_reconnects_and_shards_each_event_is_on_exactly_one_side(
    sim: DiscordSim, environment: None, nats_url: str, fault: str
) -> None:
    guilds = tuple(sim.add_guild(f"G{shard}", id=((10**12 + shard) << 22) | shard) for shard in range(2))
    host = commands.AutoShardedBot(
        "!", intents=discord.Intents.all(), help_command=None, shard_count=2, guild_ready_timeout=0.2
    )
    texts: list[str] = []

    async def identify_at_once(shard_id: int | None, *, initial: bool = False) -> None:
        """discord.py's own hook waits five seconds between shards."""

    host.before_identify_hook = identify_at_once  # type: ignore[method-assign]

    @host.listen()
    async def on_message(message: discord.Message) -> None:
        texts.append(message.content)

    untyped: Any = host
    untyped.texts, untyped.connection = texts, None
    heard: dict[SimGuild, list[int]] = listen(untyped, guilds)
    async with connected(host, GATEWAY):
        core: Core = core_of(host)
        untyped.connection = asyncio.create_task(asyncio.sleep(3600))
        before = traces(host)
        for turn in range(3):
            await (register if turn % 2 == 0 else unregister)(core, guilds[0])
            for _ in range(30):
                for guild in guilds:
                    sim.message(guild, content="hello")
            match fault:
                case "reconnect":
                    await sim.reconnect()
                case "drop":
                    await sim.drop()
                case _:
                    await sim.invalidate(resumable=False)
            await sim.wait_connected(2)
        production, sandboxed = await check_sides(sim, untyped, heard, nats_url)
        assert (production, sandboxed) == (30, 60)
        untyped.connection.cancel()
        await host.unload_extension(GATEWAY)
        assert traces(host)["dispatch"] != before["dispatch"]
        left = traces(host)
        assert {each["log_receive"] for each in left["sockets"]} == {None}
        assert {each["_dispatch"] for each in left["sockets"]} == {host.dispatch}
        shards: Any = host._AutoShardedClient__shards  # type: ignore[attr-defined]
        assert {shard._dispatch for shard in shards.values()} == {host.dispatch}


async def test_owners_commands_are_ours_alone_and_other_direct_messages_the_hosts(
    sim: DiscordSim, environment: None, guilds: tuple[SimGuild, SimGuild]
) -> None:
    host = HostBot()
    async with connected(host, GATEWAY, "sandbox_cogs.owner"):
        host.forget()
        (answer,) = await sim.dm(sim.owner, "list")
        assert answer.content
        stranger: SimUser = sim.add_user("stranger")
        await sim.dm(stranger, "list", count=0)
        await everything_came(sim, host)
        # The bot's own answer is a direct message like any other.
        assert host.texts[:-1] == [answer.content, "list"]
