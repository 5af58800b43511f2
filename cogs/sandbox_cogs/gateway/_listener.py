"""The listener that taps raw frames in a bot whose sockets are discord.py's own.

Rests on discord.py 2.7: with debug events on, every decompressed frame is dispatched as
`on_socket_raw_receive(text)` before it is parsed, in order, one task each; work done before the first
`await` therefore keeps the order. The frame does not tell its shard.
"""

from __future__ import annotations

import asyncio

import structlog
from discord.ext import commands
from discord.gateway import DiscordWebSocket

from sandbox_cogs._core import AnyBot
from sandbox_core.bootstrap import Core
from sandbox_core.event_router import ready_session
from sandbox_core.events import DISPATCH, Frame

from ._publishing import Publishing

_log = structlog.get_logger("sandbox.gateway")

_DRAIN_WITHIN = 5.0


class GatewayListener(commands.Cog):
    """Hands every frame of the bot's gateway connections to the router, or keeps it while others publish."""

    def __init__(self, bot: AnyBot, core: Core) -> None:
        self._bot = bot
        self._core = core
        self._publishing = Publishing(core)
        self._debug_events_before = bot._enable_debug_events

    @property
    def gateway_trouble(self) -> str:
        """Why it can't be known who publishes the bot's shards; "" when it is."""
        return self._publishing.trouble

    @property
    def standing_by(self) -> bool:
        """True when other processes publish all of the bot's shards; `core.publishing` says which."""
        return self._publishing.standing_by

    async def cog_load(self) -> None:
        """Turn debug events on, also for sockets that are open already."""
        self._bot._enable_debug_events = True
        for socket in _open_sockets(self._bot):
            socket.log_receive = socket.debug_log_receive  # type: ignore[method-assign]
            if socket.session_id is not None:
                self._adopt(socket)

    async def cog_unload(self) -> None:
        """Publish what was taken, and leave the bot as it was found."""
        if not self._debug_events_before:
            self._bot._enable_debug_events = False
            for socket in _open_sockets(self._bot):
                for replaced in ("log_receive", "send"):
                    vars(socket).pop(replaced, None)
        try:
            async with asyncio.timeout(_DRAIN_WITHIN):
                await self._publishing.drained()
        except TimeoutError:
            left = self._core.router.pending + self._publishing.kept
            _log.error("unloaded_with_events_unacknowledged", events=left)
        await self._publishing.leave()

    @commands.Cog.listener()
    async def on_socket_raw_receive(self, text: str) -> None:
        """Route one frame. Nothing here may await: the next frame's task would overtake."""
        intake = self._core.intake
        frame = intake.read(text.encode())
        # RESUMED does not tell its shard, and is nobody's event.
        if frame is None or frame.op != DISPATCH or frame.type == "RESUMED":
            return
        if frame.type == "READY":
            _, shard_id, shard_count = ready_session(frame)
            self._publishing.session(shard_id, shard_count, self._bot.application_id or 0)
        else:
            shard_id = self._shard_of(frame)
        intake.take(frame, shard_id)

    @commands.Cog.listener()
    async def on_disconnect(self) -> None:
        """A bot with one shard lost its connection."""
        if not isinstance(self._bot, commands.AutoShardedBot):
            self._publishing.disconnected(self._bot.shard_id or 0)

    @commands.Cog.listener()
    async def on_resumed(self) -> None:
        """A bot with one shard has got what it had missed."""
        if not isinstance(self._bot, commands.AutoShardedBot):
            self._publishing.resumed(self._bot.shard_id or 0)

    @commands.Cog.listener()
    async def on_shard_disconnect(self, shard_id: int) -> None:
        """A shard lost its connection."""
        self._publishing.disconnected(shard_id)

    @commands.Cog.listener()
    async def on_shard_resumed(self, shard_id: int) -> None:
        """A shard has got what it had missed."""
        self._publishing.resumed(shard_id)

    def _shard_of(self, frame: Frame) -> int:
        if not isinstance(self._bot, commands.AutoShardedBot):
            return self._bot.shard_id or 0
        # Guild events come on the shard (guild_id >> 22) % shard_count, all others on shard 0
        # (Discord's developer documentation, "Gateway", sharding).
        return 0 if frame.guild_id is None else (int(frame.guild_id) >> 22) % (self._bot.shard_count or 1)

    def _adopt(self, socket: DiscordWebSocket) -> None:
        """The extension was loaded while the session ran already."""
        shard_id = socket.shard_id or 0
        self._publishing.session(shard_id, socket.shard_count or 1, self._bot.application_id or 0)
        self._core.intake.adopt(socket.session_id or "", shard_id, socket.sequence or 0)
        if not socket.open:
            self._publishing.disconnected(shard_id)


def _open_sockets(bot: AnyBot) -> list[DiscordWebSocket]:
    if isinstance(bot, commands.AutoShardedBot):
        return [bot._get_websocket(shard_id=shard_id) for shard_id in bot.shards]
    socket: DiscordWebSocket | None = bot.ws  # typed as always there; None before the first connection
    return [] if socket is None else [socket]
