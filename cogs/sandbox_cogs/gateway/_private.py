"""What the extension touches in discord.py behind its public interface, all in one place.

Read in discord.py 2.7.1, `client.py`, `shard.py`, `state.py` and `gateway.py`: the connection state has a
parser for each event in `parsers`, which every socket looks up there; parsers tell what they found with the
state's `dispatch`, and sockets with the client's, which they keep as `_dispatch` from the moment they are
made, as does each shard. With debug events on, a socket's `log_receive` and `send` are its own
`debug_log_receive` and `debug_send`: the first dispatches `socket_raw_receive(text)` before the frame is
parsed, and nothing awaits between the two. `tests/plugin/test_private_names.py` fails when one of these is
gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from discord.ext import commands
from discord.gateway import DiscordWebSocket

from sandbox_cogs._core import AnyBot

Parser = Callable[[Any], None]
Dispatch = Callable[..., None]

SHARDS = "_AutoShardedClient__shards"
KEPT_DISPATCH = "_dispatch"


def parsers_of(bot: AnyBot) -> dict[str, Parser]:
    """Event name to its parser; changes to it are discord.py's."""
    return bot._connection.parsers


def attributes_of_state(bot: AnyBot) -> dict[str, Any]:
    """The connection state's own attributes; its `dispatch` is one."""
    return vars(bot._connection)


def open_sockets(bot: AnyBot) -> list[DiscordWebSocket]:
    """The sockets of the bot's shards; none before the first connection, and none that are only played."""
    if isinstance(bot, commands.AutoShardedBot):
        sockets: list[object] = [bot._get_websocket(shard_id=shard_id) for shard_id in bot.shards]
    else:
        sockets = [bot.ws]
    return [socket for socket in sockets if isinstance(socket, DiscordWebSocket)]


def keepers_of_dispatch(bot: AnyBot) -> list[dict[str, Any]]:
    """The attributes of everything that keeps the client's `dispatch` for itself."""
    shards: dict[int, Any] = getattr(bot, SHARDS, {})
    return [vars(keeper) for keeper in (*open_sockets(bot), *shards.values())]


def has_debug_events(bot: AnyBot) -> bool:
    """True when raw frames are dispatched by sockets made from now on."""
    return bot._enable_debug_events


def set_debug_events(bot: AnyBot, *, on: bool) -> None:
    """Have raw frames dispatched by sockets made from now on, or not."""
    bot._enable_debug_events = on


def has_message_cache(bot: AnyBot) -> bool:
    """False when the bot was made with `max_messages=None`."""
    return bot._connection.max_messages is not None


def tap(socket: DiscordWebSocket) -> None:
    """Have the socket dispatch each raw frame that it receives."""
    socket.log_receive = socket.debug_log_receive  # type: ignore[method-assign]


def untap(socket: DiscordWebSocket) -> None:
    """Have the socket dispatch no raw frames; what somebody else has put there stays."""
    attributes = vars(socket)
    for name, debug in (("log_receive", socket.debug_log_receive), ("send", socket.debug_send)):
        if attributes.get(name) == debug:
            del attributes[name]


def call_listener(bot: AnyBot, listener: Any, event: str, *arguments: Any) -> None:
    """Run one listener as discord.py runs it: in a task, with its error handling."""
    cast("Any", bot)._schedule_event(listener, event, *arguments)
