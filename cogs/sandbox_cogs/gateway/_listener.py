"""Receives the raw frames of a bot that uses discord.py's own sockets.

It relies on discord.py 2.7: with debug events on, discord.py dispatches every decompressed frame as
`socket_raw_receive(text)` before it parses the frame. The shield intercepts this call, so frames come in
order and before any other listener sees them. A frame does not name its shard.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from discord.ext import commands
from discord.gateway import DiscordWebSocket

from sandbox_cogs._core import AnyBot
from sandbox_core.bootstrap import Core
from sandbox_core.events import CONNECTION_EVENTS, DISPATCH, Frame, read_ready
from sandbox_core.models import shard_of

from ._deliveries import Deliveries
from ._fitness import shards_of_host, tell_unfit_shards
from ._private import open_sockets
from ._publishing import Publishing
from ._shield import Shield

_log = structlog.get_logger("sandbox.gateway")

_DRAIN_WITHIN = 5.0


class GatewayListener(commands.Cog):
    """Passes every frame of the bot's gateway to the router, or keeps it while another process publishes."""

    def __init__(self, bot: AnyBot, core: Core) -> None:
        self._bot = bot
        self._core = core
        self._publishing = Publishing(core)
        self._shielding = core.settings.sandbox_shield_host
        self._shards_checked = shards_of_host(bot)[0] is not None
        self._shield = Shield(bot, self.on_frame, self._judge_guild, shielding=self._shielding)

    @property
    def gateway_trouble(self) -> str:
        """Say why it is unknown which process publishes the bot's shards; "" when it is known."""
        return self._publishing.trouble

    @property
    def standing_by(self) -> bool:
        """Whether other processes publish all of the bot's shards; `core.publishing` names them."""
        return self._publishing.standing_by

    async def cog_load(self) -> None:
        """Start to receive frames, also from sockets that are open already."""
        self._shield.install()
        for socket in open_sockets(self._bot):
            if socket.session_id is not None:
                self._adopt(socket, socket.sequence or 0)

    async def cog_unload(self) -> None:
        """Publish the frames received so far, and restore the bot as it was before loading."""
        self._shield.remove()
        try:
            async with asyncio.timeout(_DRAIN_WITHIN):
                await self._publishing.drained()
        except TimeoutError:
            left = self._core.router.pending + self._publishing.kept
            _log.error("unloaded_with_events_unacknowledged", events=left)
        await self._publishing.leave()

    @commands.Cog.listener()
    async def on_connect(self) -> None:
        """Check the shards: by now discord.py knows their number, from its options or from Discord."""
        if not self._shards_checked:
            self._shards_checked = True
            tell_unfit_shards(self._bot, self._core.settings)

    def on_frame(self, text: str) -> Deliveries | None:
        """Route one frame. Return its deliveries to the host, or None when all listeners may have it."""
        intake = self._core.intake
        frame = intake.read(text.encode())
        # RESUMED does not name its shard, and is never published.
        if frame is None or frame.op != DISPATCH or frame.type == "RESUMED":
            return None
        if frame.type == "READY":
            shard_id, shard_count = read_ready(frame).shard
            self._publishing.session(shard_id, shard_count, self._bot.application_id or 0)
        else:
            shard_id = self._shard_of(frame)
            if intake.ledger(shard_id) is None:
                self._adopt_before(frame, shard_id)
        if not self._shielding or frame.type in CONNECTION_EVENTS:
            intake.take(frame, shard_id)
            return None
        deliveries = Deliveries(frame.type)
        if not intake.take(frame, shard_id, deliveries.decide_by):
            self._core.router.judge(frame, deliveries.decide_by)
        return deliveries

    def _judge_guild(self, guild_id: int, deliveries: Deliveries) -> None:
        """Decide about a guild whose GUILD_CREATE came before loading; discord.py reports it only now."""
        frame = Frame(b"", DISPATCH, deliveries.event, 0, time.monotonic(), str(guild_id))
        self._core.router.judge(frame, deliveries.decide_by)

    @commands.Cog.listener()
    async def on_disconnect(self) -> None:
        """Note that a bot with one shard lost its connection."""
        if not isinstance(self._bot, commands.AutoShardedBot):
            self._publishing.disconnected(self._bot.shard_id or 0)

    @commands.Cog.listener()
    async def on_resumed(self) -> None:
        """Note that a bot with one shard has received its missed events."""
        if not isinstance(self._bot, commands.AutoShardedBot):
            self._publishing.resumed(self._bot.shard_id or 0)

    @commands.Cog.listener()
    async def on_shard_disconnect(self, shard_id: int) -> None:
        """Note that a shard lost its connection."""
        self._publishing.disconnected(shard_id)

    @commands.Cog.listener()
    async def on_shard_resumed(self, shard_id: int) -> None:
        """Note that a shard has received its missed events."""
        self._publishing.resumed(shard_id)

    def _shard_of(self, frame: Frame) -> int:
        if not isinstance(self._bot, commands.AutoShardedBot):
            return self._bot.shard_id or 0
        return shard_of(frame.guild_id, self._bot.shard_count or 1)

    def _adopt_before(self, frame: Frame, shard_id: int) -> None:
        """Start with this frame: the extension was loaded while the socket connected, and missed READY."""
        for socket in open_sockets(self._bot):
            if (socket.shard_id or 0) == shard_id and socket.session_id is not None:
                self._adopt(socket, frame.seq - 1)

    def _adopt(self, socket: DiscordWebSocket, sequence: int) -> None:
        """Continue a session that began before the extension was loaded, after `sequence`."""
        shard_id = socket.shard_id or 0
        self._publishing.session(shard_id, socket.shard_count or 1, self._bot.application_id or 0)
        self._core.intake.adopt(socket.session_id or "", shard_id, sequence)
        if not socket.open:
            self._publishing.disconnected(shard_id)
