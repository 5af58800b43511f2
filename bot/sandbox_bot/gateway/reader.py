"""Reads one gateway connection: messages, what they decompress to, and the events in that, which are routed.

aiohttp makes an object of every message, queues it and wakes a task, which takes longer than to decompress
it. So once HELLO has come, messages are taken from the bytes as they arrive. That goes for whole binary
messages, which is what Discord sends; with anything else the connection becomes aiohttp's again, for good.

Rests on aiohttp 3.14's `ClientWebSocketResponse`: the protocol of its `_conn` gives all bytes to the
`feed_data` of its `_payload_parser`, and calls `feed_eof` when the connection is lost; `_buffer` of its
`_reader` holds messages that nobody has received. WebSocket frames: RFC 6455, section 5.2.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
import structlog

from sandbox_core.event_router import GatewayIntake
from sandbox_core.events import DISPATCH, Frame, FrameError, read_frame

from .endings import ConnectionEndedError, Ending
from .inflate import LARGEST, UNREADABLE, Stream

_log = structlog.get_logger("sandbox.gateway")

_DATA = (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT)
_WHOLE_BINARY = 0x82
_TWO_BYTES, _EIGHT_BYTES = 126, 127
# Beyond that the socket is not read: Discord keeps the rest.
_MOST_HELD_BYTES = 256 * 1024
_TAKEN: tuple[bool, bytes] = (False, b"")

ATTENDED_TO = frozenset(
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
        "INTERACTION_CREATE",
    }
)
"""Events of a guild that may take more than being routed; of those without a guild any may."""


class GatewayReader:
    """Hands every dispatch frame to the intake, in order.

    aiohttp calls `feed_data` and `feed_eof` when this stands in for its parser. `ended` tells how the
    connection ended.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        stream: Stream,
        intake: GatewayIntake,
        shard_id: int,
        ended: Callable[[], Exception],
    ) -> None:
        self._ended = ended
        # The private names of aiohttp's socket have no types to rely on.
        self._socket: Any = socket
        self._stream = stream
        self._decompress = stream.decompress
        self._intake = intake
        self._shard = intake.shard(shard_id)
        self._backlog = intake.backlog
        self.sequence: int | None = None
        """Of the last dispatch frame."""
        self.plain = False
        """What came was not compressed at all."""
        self._more: deque[bytes] = deque()
        """Events that came together with the one before them."""
        self._protocol: Any = None
        """aiohttp's, while its parser is replaced."""
        self._parser: Any = None
        self._data = b""
        self._position = 0
        """Up to here `_data` is read."""
        self._arrived: list[bytes] = []
        """What came after `_data`, while it is not looked at."""
        self._arrived_bytes = 0
        self._lacking = 0
        """How many bytes are missing of the message that stands at `_position`, as far as is known."""
        self._found: Frame | None = None
        """A frame that `next` has to return before anything behind it is read."""
        self._fault: Exception | None = None
        self._answer = _TAKEN
        """What aiohttp is told of the bytes that it gave."""
        self._holds = False
        """Nothing is read: a frame is attended to, or nobody asks for the next one."""
        self._lost = False
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> Frame:
        """Route what comes up to a frame that takes more than that, and return it.

        Raises what `ended` gives when the connection is closed, and what the stream raises.
        """
        while True:
            if self._fault is not None:
                raise self._fault
            frame, self._found = self._found, None
            if frame is None and self._more:
                frame = self._next_of_several()
            if frame is not None:
                return frame
            if self._holds:
                self._go_on()
            elif self._protocol is not None:
                await self._arrival()
            else:
                # Without a time-out per message, which costs a tenth of an event: the heartbeat notices
                # silence.
                message = await self._socket.receive()
                if message.type not in _DATA:
                    raise self._ended()
                self._found = self._message(message.data, time.monotonic())

    def take_bytes(self) -> None:
        """Take messages from the bytes from now on; the other side waits for an answer to the last one."""
        protocol: Any = getattr(getattr(self._socket, "_conn", None), "protocol", None)
        parser = getattr(protocol, "_payload_parser", None)
        unread = getattr(getattr(self._socket, "_reader", None), "_buffer", None)
        if parser is None or unread is None or self.plain:
            if not self.plain:
                _log.warning("aiohttp_socket_unknown")
        elif not unread:
            self._protocol, self._parser = protocol, parser
            # HELLO is being attended to: what comes meanwhile is read by the next call of `next`.
            self._holds = True
            protocol._payload_parser = self

    def give_back(self) -> None:
        """Leave the rest of the connection to aiohttp, which closes it."""
        protocol: Any = self._protocol
        self._protocol = None
        if protocol is None:
            return
        if protocol._payload_parser is self:
            protocol._payload_parser = self._parser
        rest = b"".join((self._data[self._position :], *self._arrived))
        self._data, self._position, self._arrived = b"", 0, []
        self._answer = self._parser.feed_data(rest)
        if self._lost:
            self._parser.feed_eof()
        self._wake()

    # What aiohttp calls

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes have arrived."""
        if self._holds or len(data) < self._lacking:
            self._arrived.append(data)
            self._arrived_bytes += len(data)
            self._lacking -= len(data)
            if self._holds and self._arrived_bytes > _MOST_HELD_BYTES and not self._protocol._reading_paused:
                self._protocol.pause_reading()
            return _TAKEN
        self._arrived.append(data)
        self._read()
        return self._answer

    def feed_eof(self) -> None:
        """The connection is lost; what arrived before is still to be read."""
        self._lost = True
        if not self._holds:
            self.give_back()

    # Bytes

    def _go_on(self) -> None:
        """Read what was not looked at while a frame was attended to."""
        self._holds = False
        protocol = self._protocol
        if protocol is None:
            return
        if protocol._reading_paused:
            protocol.resume_reading()
        self._read()
        if self._lost and not self._holds:
            self.give_back()

    def _read(self) -> None:
        if self._arrived:
            if self._position < len(self._data):
                self._arrived.insert(0, self._data[self._position :])
            self._data = self._arrived[0] if len(self._arrived) == 1 else b"".join(self._arrived)
            self._position = self._arrived_bytes = 0
            self._arrived = []
        self._lacking = 0
        try:
            self._found = self._read_messages()
        except Exception as error:
            # The stream is not what it should be, or whatever it is: `next` raises it.
            self._fault = error
        if self._found is not None or self._fault is not None:
            self._holds = True
            self._wake()

    def _read_messages(self) -> Frame | None:
        """Take whole messages up to a frame that there is more to do with."""
        data, begin = self._data, self._position
        size, now = len(data), time.monotonic()
        while size - begin > 1:
            length = data[begin + 1]
            start = begin + 2
            if length == _TWO_BYTES and size - begin > 3:
                start = begin + 4
                length = data[begin + 2] << 8 | data[begin + 3]
            elif length == _TWO_BYTES:
                break
            elif length == _EIGHT_BYTES:
                start = begin + 10
                length = int.from_bytes(data[begin + 2 : start])
            if data[begin] != _WHOLE_BINARY or data[begin + 1] > _EIGHT_BYTES:
                self._position = begin
                self.give_back()
                return None
            end = start + length
            if end > size:
                if start <= size:
                    self._lacking = end - size
                break
            begin = self._position = end
            frame = self._message(data[start:end], now)
            if frame is not None:
                return frame
        return None

    async def _arrival(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self._holds = True
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Messages

    def _message(self, data: bytes | str, now: float) -> Frame | None:
        """Route what a message brought; returns the frame when there is more to do with it."""
        if isinstance(data, str):
            self.plain = True
            self._more.append(data.encode())
            return self._next_of_several()
        raw: bytes | None
        if self._decompress is None or self._stream.pieces:
            raw = self._stream.inflate(data)
        else:
            try:
                raw = self._decompress(data, LARGEST)
            except UNREADABLE as error:
                raise ConnectionEndedError(Ending.GARBLED) from error
        if not raw:
            return None
        try:
            frame = read_frame(raw, now, self._intake.owner_ids)
        except FrameError:
            self._more.extend(self._stream.apart(raw))
            return self._next_of_several()
        # As in `_route`, and not shared with it: every event would pay for the call.
        if frame.op != DISPATCH:
            return frame
        self.sequence = frame.seq
        shard = self._shard
        shard.take(frame)
        if frame.guild_id is None or frame.type in ATTENDED_TO or self._backlog.full:
            return frame
        return frame if shard.waiting is not None and shard.waiting.is_crowded else None

    def _next_of_several(self) -> Frame | None:
        """Route what came together, up to the next frame that there is more to do with."""
        while self._more:
            frame = self._intake.read(self._more.popleft())
            if frame is not None and self._route(frame) is not None:
                return frame
        return None

    def _route(self, frame: Frame) -> Frame | None:
        if frame.op != DISPATCH:
            return frame
        # For the heartbeat; discord.py sets it for what it parses only.
        self.sequence = frame.seq
        shard = self._shard
        shard.take(frame)
        if frame.guild_id is None or frame.type in ATTENDED_TO or self._backlog.full:
            return frame
        if shard.waiting is not None and shard.waiting.is_crowded:
            return frame
        return None
