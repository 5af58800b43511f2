"""discord.py still has the private names that the extension rests on; see `gateway/_private.py`."""

from __future__ import annotations

import inspect
from typing import Any

import discord
from discord import shard, state
from discord.ext import commands
from discord.gateway import DiscordWebSocket

from sandbox_cogs.gateway import _private


async def bots() -> list[Any]:
    made = [
        kind(command_prefix="!", intents=discord.Intents.default())
        for kind in (commands.Bot, commands.AutoShardedBot)
    ]
    for bot in made:
        await bot._async_setup_hook()
    return made


async def test_the_state_has_parsers_and_tells_with_the_clients_dispatch() -> None:
    for bot in await bots():
        parsers = _private.parsers_of(bot)
        assert parsers is bot._connection.parsers
        assert {"READY", "MESSAGE_CREATE", "INTERACTION_CREATE", "GUILD_CREATE"} <= parsers.keys()
        assert _private.attributes_of_state(bot)["dispatch"] == bot.dispatch
        assert "dispatch" not in vars(bot)


async def test_without_a_connection_there_is_nothing_that_keeps_the_dispatch() -> None:
    for bot in await bots():
        assert _private.open_sockets(bot) == _private.keepers_of_dispatch(bot) == []
        assert _private.has_message_cache(bot)
        assert not _private.has_debug_events(bot)
        _private.set_debug_events(bot, on=True)
        assert _private.has_debug_events(bot)


async def test_shards_and_sockets_keep_the_dispatch_under_the_name_that_is_looked_for() -> None:
    sharded = (await bots())[1]
    assert getattr(sharded, _private.SHARDS) == {}
    # As `connect` sets it.
    sharded._reconnect = True

    class Socket:
        open = True

        def __init__(self) -> None:
            self._dispatch = sharded.dispatch

    made = shard.Shard(Socket(), sharded, print)  # type: ignore[arg-type]
    assert vars(made)[_private.KEPT_DISPATCH] == sharded.dispatch
    assert f"self.{_private.KEPT_DISPATCH}" in inspect.getsource(DiscordWebSocket.__init__)
    source = inspect.getsource(DiscordWebSocket.from_client)
    assert f"ws.{_private.KEPT_DISPATCH} = client.dispatch" in source
    assert "ws._discord_parsers = client._connection.parsers" in source
    assert "if client._enable_debug_events:" in source


def test_a_frame_is_dispatched_raw_then_by_its_type_and_then_parsed_without_a_pause() -> None:
    source = inspect.getsource(DiscordWebSocket.received_message)
    order = [
        source.index(part)
        for part in (
            "self.log_receive(msg)",
            "self._dispatch('socket_event_type', event)",
            "func = self._discord_parsers[event]",
            "func(data)",
        )
    ]
    assert order == sorted(order)
    assert "await" not in source[source.index("if event == 'READY'") :]
    assert "'socket_raw_receive'" in inspect.getsource(DiscordWebSocket.debug_log_receive)
    assert "'socket_raw_send'" in inspect.getsource(DiscordWebSocket.debug_send)


def test_only_what_is_known_of_reaches_the_host_beside_the_dispatch() -> None:
    """Of all parsers only the one of interactions calls the tree and the views."""
    parsers = {
        name: inspect.getsource(parser)
        for kind in (state.ConnectionState, state.AutoShardedConnectionState)
        for name, parser in inspect.getmembers(kind, inspect.isfunction)
        if name.startswith("parse_")
    }
    reaching = {
        name
        for name, source in parsers.items()
        if any(call in source for call in ("_from_interaction", "dispatch_view", "dispatch_modal"))
    }
    assert reaching == {"parse_interaction_create"}
    later = {name for name, source in parsers.items() if "create_task" in source}
    # A voice connection that the host has is left to itself.
    assert later == {
        "parse_ready",
        "parse_guild_create",
        "parse_voice_state_update",
        "parse_voice_server_update",
    }
    delayed = inspect.getsource(state.ConnectionState._chunk_and_dispatch) + inspect.getsource(
        state.ConnectionState._delay_ready
    )
    assert set(_dispatched(delayed)) == {"guild_available", "guild_join", "ready"}
    sharded = inspect.getsource(state.AutoShardedConnectionState._delay_shard_ready)
    assert set(_dispatched(sharded)) == {"guild_available", "guild_join", "shard_ready"}


def _dispatched(source: str) -> list[str]:
    return [part.partition("'")[0] for part in source.split("self.dispatch('")[1:]]


def test_a_tree_tells_afterwards_only_of_a_command_that_has_run() -> None:
    from discord.app_commands import tree

    source = inspect.getsource(tree)
    told = {part.partition("'")[0] for part in source.split("client.dispatch('")[1:]}
    assert told == {"app_command_completion"}


async def test_one_listener_is_run_as_discord_py_runs_it() -> None:
    (bot, _) = await bots()
    heard: list[str] = []

    async def on_something(what: str) -> None:
        heard.append(what)

    _private.call_listener(bot, on_something, "on_something", "news")
    import asyncio

    for task in asyncio.all_tasks():
        if task.get_name() == "discord.py: on_something":
            await task
    assert heard == ["news"]
