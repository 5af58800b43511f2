"""A discord.py gateway socket that taps every frame before parsing.

Rests on discord.py 2.7's `DiscordWebSocket`: `received_message` is awaited for each message before the
next one is read, so awaiting in it holds the socket back (`KeepAliveHandler` beats from its own thread);
`client.py` and `shard.py` find the class by its name in their modules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol, Self, cast, runtime_checkable

import aiohttp
import discord.client
import discord.gateway
import discord.shard
import structlog
import yarl
from discord.errors import ConnectionClosed
from discord.gateway import DiscordWebSocket, ReconnectWebSocket

from sandbox_core.event_router import GatewayIntake
from sandbox_core.events import DISPATCH, Frame
from sandbox_core.metrics import Metrics

from .priming import prime, ready_resume_url, resumable
from .sessions import SessionBook

_log = structlog.get_logger("sandbox.gateway")

# What discord.py keeps up to date for this bot: guild and channel names, and who owns a channel.
_PARSED = frozenset(
    {
        "READY",
        "RESUMED",
        "USER_UPDATE",
        "GUILD_CREATE",
        "GUILD_UPDATE",
        "GUILD_DELETE",
        "GUILD_ROLE_CREATE",
        "GUILD_ROLE_UPDATE",
        "GUILD_ROLE_DELETE",
        "CHANNEL_CREATE",
        "CHANNEL_UPDATE",
        "CHANNEL_DELETE",
        "THREAD_CREATE",
        "THREAD_UPDATE",
        "THREAD_DELETE",
    }
)
_DATA = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
_SESSION_ENDING = frozenset({1000, 1001})
_KEEPS_SESSION = 4000
_RESUME_URL_WITHIN = 15.0


@runtime_checkable
class RoutesFrames(Protocol):
    """A client whose gateway frames go through an intake."""

    @property
    def intake(self) -> GatewayIntake: ...

    @property
    def sessions(self) -> SessionBook: ...

    @property
    def gateway_metrics(self) -> Metrics: ...

    @property
    def gateway_url(self) -> yarl.URL | None:
        """Where to connect, or None for discord.py's default."""


class RoutedWebSocket(DiscordWebSocket):
    """Hands each dispatch frame to the intake, and to discord.py only what the bot itself needs."""

    intake: ClassVar[GatewayIntake]
    sessions: ClassVar[SessionBook]
    metrics: ClassVar[Metrics]

    @classmethod
    async def from_client(cls, client: discord.Client, **options: Any) -> Self:
        """Connect, and resume whenever there is a session, whatever discord.py asks for.

        A client that does not route its frames gets discord.py's own socket.
        """
        if not isinstance(client, RoutesFrames):
            plain: Any = await DiscordWebSocket.from_client(client, **options)
            return cast("Self", plain)
        members: dict[str, Any] = {
            "intake": client.intake,
            "sessions": client.sessions,
            "metrics": client.gateway_metrics,
            "DEFAULT_GATEWAY": client.gateway_url or DiscordWebSocket.DEFAULT_GATEWAY,
        }
        # The socket receives its first frames inside discord.py's `from_client`: a class made for this
        # client is how it has the intake by then.
        bound: Any = type(cls.__name__, (cls,), members)
        return cast("Self", await bound._connect(client, **options))

    @classmethod
    async def _connect(cls, client: discord.Client, **options: Any) -> Self:
        shard_id = options.get("shard_id") or 0
        point = cls.sessions.resume_point(shard_id)
        if point is None:
            options.update(gateway=cls.DEFAULT_GATEWAY, resume=False, session=None, sequence=None)
            return await super().from_client(client, **options)
        cls.sessions.resuming(shard_id, point)
        options.update(
            gateway=yarl.URL(point.resume_url), resume=True, session=point.session_id, sequence=point.sequence
        )
        try:
            async with asyncio.timeout(_RESUME_URL_WITHIN):
                socket = await super().from_client(client, **options)
        except (OSError, TimeoutError, aiohttp.ClientError, ReconnectWebSocket, ConnectionClosed) as error:
            # Discord's resume addresses die; clients that insist on one stay away for hours.
            _log.warning("resume_url_failed", shard=shard_id, error=type(error).__name__)
            cls.sessions.use_instead(shard_id, str(cls.DEFAULT_GATEWAY))
            socket = await super().from_client(client, **{**options, "gateway": cls.DEFAULT_GATEWAY})
        if shard_id not in cls.sessions.introduced:
            await prime(client, socket, point)
            cls.sessions.introduced.add(shard_id)
        return socket

    async def received_message(self, message: Any, /) -> None:
        """Route one gateway message; wait when the router is full."""
        text: str | None = message
        if isinstance(message, bytes):
            text = self._decompressor.decompress(message)
        if text is None:
            return
        frame = self.intake.read(text.encode())
        if frame is None or frame.op != DISPATCH:
            if frame is not None and frame.op == self.INVALIDATE_SESSION and not resumable(frame):
                await self.sessions.ended(self.shard_id or 0)
            await super().received_message(text)
            return
        # discord.py notes the sequence of the frames it parses; the heartbeat needs it of all.
        self.sequence = frame.seq
        self._route(frame)
        if self.intake.full:
            await self.intake.room()
        if not _is_parsed(frame):
            if self._keep_alive is not None:
                self._keep_alive.tick()
            return
        try:
            await super().received_message(text)
        except Exception:
            # discord.py's parsers raise whatever a payload they don't expect makes them raise, which
            # would end the shard. The event is routed already; only this bot's own view misses it.
            _log.exception("frame_not_parsed", type=frame.type, shard=self.shard_id)

    def _route(self, frame: Frame) -> None:
        shard_id = self.shard_id or 0
        self.intake.take(frame, shard_id)
        if frame.type == "READY":
            self.metrics.gateway_identifies.inc()
            self.sessions.began(shard_id, ready_resume_url(frame))
            self.sessions.established(shard_id)
        elif frame.type == "RESUMED":
            self.metrics.gateway_resumes.inc()
            self.sessions.established(shard_id)

    async def close(self, code: int = _KEEPS_SESSION) -> None:
        """Close without ending the session: Discord ends it on 1000 and 1001, and keeps it on others."""
        self.sessions.disconnected(self.shard_id or 0)
        await super().close(_KEEPS_SESSION if code in _SESSION_ENDING else code)

    async def poll_event(self) -> None:
        """Handle the next message; whatever ends the connection is noted and raised as by discord.py."""
        try:
            if self._keep_alive is None:
                await super().poll_event()
                return
            # Without discord.py's time-out, which costs a tenth of an event: once heartbeats go out,
            # `KeepAliveHandler` closes a connection that stays silent for as long.
            message = await self.socket.receive()
            if message.type in _DATA:
                await self.received_message(message.data)
            else:
                # The socket is closed by now: discord.py finds it so, and decides what follows.
                await super().poll_event()
        except BaseException:
            self.sessions.disconnected(self.shard_id or 0)
            raise


def _is_parsed(frame: Frame) -> bool:
    if frame.type == "INTERACTION_CREATE":
        return frame.is_own_interaction
    if frame.type == "MESSAGE_CREATE":
        return frame.guild_id is None
    return frame.type in _PARSED


@contextmanager
def routed_sockets() -> Iterator[None]:
    """While entered, discord.py's clients make their gateway sockets from `RoutedWebSocket`."""
    modules: tuple[Any, ...] = (discord.client, discord.shard)
    before = [module.DiscordWebSocket for module in modules]
    for module in modules:
        module.DiscordWebSocket = RoutedWebSocket
    try:
        yield
    finally:
        for module, original in zip(modules, before, strict=True):
            module.DiscordWebSocket = original
