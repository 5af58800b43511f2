"""All uses of discord.py's private names, in one place.

From discord.py 2.7.1, `client.py`, `shard.py`, `state.py` and `gateway.py`: The connection state has one
parser for each event in `parsers`; every socket looks them up there. A parser calls the state's `dispatch`.
Sockets and shards call the client's `dispatch`, which they copy to `_dispatch` when they are created. With
debug events on, a socket's `log_receive` and `send` are its `debug_log_receive` and `debug_send`. The first
dispatches `socket_raw_receive(text)`, then the frame is parsed, with no await between, by `_from_json` of
`discord.utils`, from orjson or the standard library.
`tests/plugin/test_private_names.py` fails when one of these names is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import discord
from discord.ext import commands
from discord.gateway import DiscordWebSocket

from sandbox_cogs._core import AnyBot

Parser = Callable[[Any], None]
Dispatch = Callable[..., None]

SHARDS = "_AutoShardedClient__shards"
KEPT_DISPATCH = "_dispatch"
FROM_JSON = "_from_json"


def parsers_of(bot: AnyBot) -> dict[str, Parser]:
    """Return discord.py's own mapping from event name to parser; a change to it takes effect."""
    return bot._connection.parsers


def attributes_of_state(bot: AnyBot) -> dict[str, Any]:
    """Return the connection state's attributes; `dispatch` is one of them."""
    return vars(bot._connection)


def open_sockets(bot: AnyBot) -> list[DiscordWebSocket]:
    """Return the sockets of the bot's shards; none before the first connection, and no fake ones."""
    if isinstance(bot, commands.AutoShardedBot):
        sockets: list[object] = [bot._get_websocket(shard_id=shard_id) for shard_id in bot.shards]
    else:
        sockets = [bot.ws]
    return [socket for socket in sockets if isinstance(socket, DiscordWebSocket)]


def json_library() -> dict[str, Any]:
    """Return the module in which sockets look up what parses a frame."""
    return vars(discord.utils)


def keepers_of_dispatch(bot: AnyBot) -> list[dict[str, Any]]:
    """Return the attributes of every socket and shard that has its own copy of the client's `dispatch`."""
    shards: dict[int, Any] = getattr(bot, SHARDS, {})
    return [vars(keeper) for keeper in (*open_sockets(bot), *shards.values())]


def has_debug_events(bot: AnyBot) -> bool:
    """Whether new sockets dispatch raw frames."""
    return bot._enable_debug_events


def set_debug_events(bot: AnyBot, *, on: bool) -> None:
    """Set whether new sockets dispatch raw frames."""
    bot._enable_debug_events = on


def has_message_cache(bot: AnyBot) -> bool:
    """Whether the bot caches messages: not with `max_messages=None`."""
    return bot._connection.max_messages is not None


def tap(socket: DiscordWebSocket) -> None:
    """Make the socket dispatch each raw frame that it receives."""
    socket.log_receive = socket.debug_log_receive  # type: ignore[method-assign]


def untap(socket: DiscordWebSocket) -> None:
    """Make the socket dispatch no raw frames; a replacement by other code stays."""
    attributes = vars(socket)
    for name, debug in (("log_receive", socket.debug_log_receive), ("send", socket.debug_send)):
        if attributes.get(name) == debug:
            del attributes[name]


def call_listener(bot: AnyBot, listener: Any, event: str, *arguments: Any) -> None:
    """Run one listener as discord.py runs it: in a task, with its error handling."""
    cast("Any", bot)._schedule_event(listener, event, *arguments)
