"""A discord.py gateway socket that taps every frame before parsing.

Rests on discord.py 2.7's `DiscordWebSocket`: `from_client` connects, waits for HELLO with `poll_event` and
sends RESUME or IDENTIFY; `received_message` parses a dispatch without awaiting anything. The protocol around
dispatches (heartbeats, op 7, op 9, closes) is handled here, because the session must outlive the connection.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Self, cast

import aiohttp
import discord
import msgspec
import structlog
import yarl
from discord.gateway import DiscordWebSocket

from sandbox_core.event_router import GatewayIntake
from sandbox_core.events import DISPATCH, Frame, shallow
from sandbox_core.metrics import Metrics
from sandbox_core.models import ResumePoint
from sandbox_core.sharding.shard_session import ShardSession
from sandbox_core.sharding.tuning import GatewayTuning

from .compression import Address, Compression, CompressionChoice, resumed_at
from .endings import ABNORMAL, KEEPS_SESSION, ConnectionEndedError, Ending, closed, resumable_code
from .heartbeat import Heartbeat
from .inflate import stream
from .ports import GatewayClient
from .priming import prime, resumable
from .reader import ATTENDED_TO, GatewayReader

_log = structlog.get_logger("sandbox.gateway")

_MAY_BE_COMMANDS = frozenset({"INTERACTION_CREATE", "MESSAGE_CREATE"})
_NOT_UNDERSTOOD = range(400, 429)
"""Answers to an address with a compression that the server does not know; 429 is about something else."""


class _HelloData(msgspec.Struct):
    heartbeat_interval: float


class _Hello(msgspec.Struct):
    d: _HelloData


_hello = msgspec.json.Decoder(_Hello).decode


class RoutedWebSocket(DiscordWebSocket):
    """Hands each dispatch frame to the intake, and to discord.py only what the bot itself needs.

    Besides discord.py's own errors, reading raises `ConnectionEndedError` or `GatewayRefusedError`.
    """

    intake: ClassVar[GatewayIntake]
    session: ClassVar[ShardSession]
    metrics: ClassVar[Metrics]
    tuning: ClassVar[GatewayTuning]
    choice: ClassVar[CompressionChoice]
    compression: ClassVar[Compression]
    """What this connection has asked for."""
    patience: ClassVar[asyncio.Timeout]
    """Runs until HELLO has come."""
    made: ClassVar[list[RoutedWebSocket]]
    """The socket of this class, from the moment its connection stands."""

    @classmethod
    async def connect(cls, client: GatewayClient, shard_id: int, point: ResumePoint | None) -> Self:
        """Connect the shard and send RESUME from `point`, or IDENTIFY where it is None.

        Raises the network's errors, `TimeoutError` when HELLO does not come, and what reading raises.
        """
        gateway = client.gateway_url if point is None else yarl.URL(point.resume_url)
        choice = client.compression
        compression = choice.present if point is None else choice.to_resume(gateway)
        session = {} if point is None else {"session": point.session_id, "sequence": point.sequence}
        made: list[RoutedWebSocket] = []
        try:
            async with asyncio.timeout(client.tuning.connect_within) as patience:
                members: dict[str, Any] = {
                    "intake": client.intake,
                    "session": client.sessions.of(shard_id),
                    "metrics": client.gateway_metrics,
                    "tuning": client.tuning,
                    "choice": choice,
                    "compression": compression,
                    "patience": patience,
                    "made": made,
                    "DEFAULT_GATEWAY": client.gateway_url,
                }
                # The socket receives its first frames inside discord.py's `from_client`: a class made
                # for this connection is how it has the intake by then.
                bound: Any = type(cls.__name__, (cls,), members)
                socket = await bound.from_client(
                    client,
                    gateway=Address(gateway, compression),
                    shard_id=shard_id,
                    resume=point is not None,
                    **session,
                )
            if point is not None and not bound.session.introduced:
                await socket.introduce(cast("discord.Client", client), point)
        except BaseException as error:
            if isinstance(error, aiohttp.WSServerHandshakeError) and error.status in _NOT_UNDERSTOOD:
                choice.refused(compression)
            for unfinished in made:
                await unfinished.close()
            raise
        return cast("Self", socket)

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, loop: asyncio.AbstractEventLoop) -> None:
        self._reader: GatewayReader | None = None
        super().__init__(socket, loop=loop)
        self.established = False
        """READY or RESUMED has come on this connection."""
        self.heartbeat: Heartbeat | None = None
        self.silent = False
        self.greeted = False
        """HELLO has come."""
        self.made.append(self)

    async def introduce(self, client: discord.Client, point: ResumePoint) -> None:
        """Tell discord.py what it would know from a READY, before the replay is read."""
        self._not_reading()
        try:
            await prime(client, self, point)
        finally:
            self._reading()
        self.session.introduced = True

    async def identify(self) -> None:
        """Send IDENTIFY when it is the shard's turn; until then there is nothing to read."""
        self._not_reading()
        try:
            await super().identify()
        finally:
            self._reading()

    @property
    def reader(self) -> GatewayReader:
        """What reads the connection; discord.py tells the shard only after the socket is made."""
        if self._reader is None:
            self._reader = GatewayReader(
                self.socket, stream(self.compression), self.intake, self.shard_id or 0, self._ended
            )
        return self._reader

    async def poll_event(self) -> None:
        """Handle messages up to the next one that takes more than being routed, and that one."""
        try:
            await self._attend(await self.reader.next())
        except ConnectionEndedError as ended:
            if self._not_understood(ended):
                self.choice.refused(self.compression)
            raise

    def _ended(self) -> Exception:
        return ConnectionEndedError(Ending.SILENT) if self.silent else closed(self.socket.close_code)

    def _not_understood(self, ended: ConnectionEndedError) -> bool:
        """Whether it ended as with a server that does not know the compression it was asked for."""
        if ended.ending is Ending.GARBLED:
            return not self.established
        return ended.ending is Ending.CLOSED and ended.code != ABNORMAL and not self.greeted

    async def _attend(self, frame: Frame) -> None:
        """Do the rest for a frame; wait while the router is full."""
        if frame.op != DISPATCH:
            await self._control(frame)
            return
        if frame.type == "READY":
            self.metrics.gateway_identifies.inc()
            ledger = self.intake.ledger(self.shard_id or 0)
            self.session.began(resumed_at(ledger.resume_url if ledger else "", self.compression))
            self._established()
        elif frame.type == "RESUMED":
            self.metrics.gateway_resumes.inc()
            self._established()
        if _is_parsed(frame) and not self._is_others_to_answer(frame):
            await self._parse(frame)
        if self.intake.full:
            await self._wait_for_room()

    def _is_others_to_answer(self, frame: Frame) -> bool:
        """A command that the process answers which publishes the shard; both get it."""
        is_command = frame.type in _MAY_BE_COMMANDS
        return is_command and self.intake.waiting(self.shard_id or 0) is not None

    def _established(self) -> None:
        self.established = True
        if self.reader.plain:
            self.choice.refused(self.compression)
        else:
            self.choice.worked(self.compression)
        self.session.established()

    async def _parse(self, frame: Frame) -> None:
        try:
            try:
                await super().received_message(frame.raw.decode())
            except RecursionError:
                # It was raised before anything was done with the frame.
                await super().received_message(shallow(frame.raw).decode())
        except Exception:
            # discord.py's parsers raise whatever a payload they don't expect makes them raise, which
            # would end the shard. The event is routed already; only this bot's own view misses it.
            _log.exception("frame_not_parsed", type=frame.type, shard=self.shard_id)

    async def _control(self, frame: Frame) -> None:
        match frame.op:
            case self.HEARTBEAT_ACK:
                if self.heartbeat is not None:
                    self.heartbeat.ack()
            case self.HEARTBEAT:
                if self.heartbeat is not None:
                    await self.heartbeat.now()
            case self.HELLO:
                self.greeted = True
                self.patience.reschedule(None)
                self.reader.take_bytes()
                self._begin_to_beat(_hello(frame.raw).d.heartbeat_interval / 1000)
            case self.RECONNECT:
                raise ConnectionEndedError(Ending.RECONNECT)
            case self.INVALIDATE_SESSION:
                raise ConnectionEndedError(Ending.INVALID, session_lost=not resumable(frame))
            case _:
                _log.warning("opcode_unknown", op=frame.op, shard=self.shard_id)

    async def _wait_for_room(self) -> None:
        self._not_reading()
        try:
            async with asyncio.timeout(self.tuning.hold_within):
                await self.intake.room()
        except TimeoutError:
            raise ConnectionEndedError(Ending.HELD_BACK) from None
        finally:
            self._reading()

    def _begin_to_beat(self, interval: float) -> None:
        async def beat() -> None:
            try:
                await self.send_heartbeat({"op": self.HEARTBEAT, "d": self.reader.sequence or self.sequence})
            except (OSError, aiohttp.ClientError, discord.ConnectionClosed) as error:
                # The reader finds the connection closed, and tells why.
                _log.debug("heartbeat_not_sent", shard=self.shard_id, error=type(error).__name__)

        async def silent() -> None:
            _log.warning("connection_silent", shard=self.shard_id, interval=interval)
            self.silent = True
            await self.close()

        self.heartbeat = Heartbeat(interval, beat, silent)
        untyped: Any = self
        untyped._keep_alive = self.heartbeat
        self.heartbeat.start()

    def _not_reading(self) -> None:
        if self.heartbeat is not None:
            self.heartbeat.not_reading()

    def _reading(self) -> None:
        if self.heartbeat is not None:
            self.heartbeat.reading()

    async def close(self, code: int = KEEPS_SESSION) -> None:
        """Close without ending the session, in bounded time; twice is harmless."""
        self.session.disconnected()
        if self.heartbeat is not None:
            self.heartbeat.stop()
        if self._reader is not None:
            self._reader.give_back()
        try:
            async with asyncio.timeout(self.tuning.close_within):
                await super().close(resumable_code(code))
        except TimeoutError:
            # Cut off while it waited for Discord's answer, aiohttp has dropped the connection.
            _log.debug("close_not_answered", shard=self.shard_id)


def _is_parsed(frame: Frame) -> bool:
    if frame.type == "INTERACTION_CREATE":
        return frame.is_own_interaction
    if frame.type == "MESSAGE_CREATE":
        return frame.guild_id is None
    # What discord.py keeps up to date for this bot: guild and channel names, and who owns a channel.
    return frame.type in ATTENDED_TO
