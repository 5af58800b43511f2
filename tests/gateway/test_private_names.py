"""discord.py still has the private names that the gateway uses; see `sandbox_bot/gateway/_private.py`."""

from __future__ import annotations

import asyncio
import inspect

import discord
from discord import utils
from discord.ext import commands
from discord.gateway import DiscordWebSocket

from sandbox_bot.gateway._private import SHARDS, shards_of, tell_shards

STATE_NAMES = (
    "shard_ids",
    "shard_count",
    "_ready_task",
    "_ready_tasks",
    "_delay_ready",
    "call_handlers",
)
"""What `_private` uses of the connection state."""


def client() -> commands.AutoShardedBot:
    """A client that never connects."""
    return commands.AutoShardedBot(command_prefix="!", intents=discord.Intents.none())


async def test_the_client_keeps_its_shards_and_its_state_where_they_are_looked_for() -> None:
    bot = client()
    assert getattr(bot, SHARDS) == {}
    assert [name for name in STATE_NAMES if not hasattr(bot._connection, name)] == []
    assert shards_of(bot) is getattr(bot, SHARDS)


async def test_the_client_answers_from_the_shards_it_is_given() -> None:
    class Socket:
        open = True
        latency = 0.25

    class Shard:
        id = 7
        ws = Socket()

    bot = client()
    shards_of(bot)[7] = Shard()
    assert list(bot.shards) == [7]
    assert not bot.shards[7].is_closed()
    assert bot.latency == 0.25
    assert bot._connection._get_websocket(shard_id=7) is Shard.ws


async def test_a_client_without_shards_is_ready() -> None:
    bot = client()
    await bot._async_setup_hook()
    tell_shards(bot, [], 4)
    assert bot.is_ready()
    assert bot._connection.shard_count == bot.shard_count == 4


async def test_a_client_is_ready_when_the_shards_it_still_has_are() -> None:
    bot = client()
    await bot._async_setup_hook()
    tell_shards(bot, [0, 1], 2)
    bot._connection.guild_ready_timeout = 0.01
    bot._connection._ready_states = {0: asyncio.Queue()}
    bot._connection._ready_tasks = {0: asyncio.create_task(bot._connection._delay_shard_ready(0))}
    assert not bot.is_ready()
    tell_shards(bot, [0], 2)
    async with asyncio.timeout(60):
        await bot.wait_until_ready()


def test_the_socket_has_what_is_overridden_and_used() -> None:
    for name in ("from_client", "poll_event", "received_message", "identify", "close", "send_heartbeat"):
        assert inspect.iscoroutinefunction(getattr(DiscordWebSocket, name)), name
    source = inspect.getsource(DiscordWebSocket)
    assert "await ws.poll_event()" in source, "HELLO is waited for inside from_client"
    assert "gateway.with_query(" in source, "the compression of an address is ours; see `compression.Address`"
    assert "call_hooks('before_identify'" in source
    assert "self._keep_alive" in source
    assert "self._decompressor" in source
    assert "self._decompressor.decompress(msg)" in source
    assert utils._ActiveDecompressionContext.COMPRESSION_TYPE in {"zlib-stream", "zstd-stream"}
