"""One client's connection: an ordered outgoing queue with back-pressure of the socket."""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import web

from discord_sim.frames import Encoder, Frame, encode, garbage
from discord_sim.jsontypes import JsonValue

BATCH = 64
"""The most messages in one write to the socket."""

QUEUE_HIGH = 512
"""From this number of queued messages a flood waits for the client."""


class Connection:
    """Sends to one WebSocket, in the order of the calls.

    Messages go directly to the transport. They are already WebSocket frames, and aiohttp's writer would take
    more time than all other work of a flood.
    """

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, *, compression: str | None
    ) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client left during the handshake")
        self.socket = socket
        self.compression = compression
        self.shard: int | None = None
        self.closed = False
        self.close_sent: int | None = None
        self.muted = False
        self.ack_frozen = False
        self._transport = transport
        self._request = request
        self._encoder = Encoder(compression)
        self._queue: deque[Frame | bytes | int] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def queued(self) -> int:
        """The number of messages that wait for the socket."""
        return len(self._queue)

    def send_frame(self, frame: Frame) -> None:
        """Queue a dispatch."""
        self._queue.append(frame)
        self._wake.set()

    def send_op(self, op: int, data: JsonValue = None) -> None:
        """Queue a message that is not a dispatch."""
        self._queue.append(encode({"t": None, "s": None, "op": op, "d": data}))
        self._wake.set()

    def close_after_queue(self, code: int) -> None:
        """Close with a code after all queued messages."""
        self._queue.append(code)
        self._wake.set()

    def cut(self, pieces: int) -> None:
        """Send each compressed event in `pieces` messages; 0 joins several events into one message."""
        self._encoder.pieces = pieces

    def abort(self) -> None:
        """Drop the TCP connection without a close frame (the client sees 1006)."""
        self._transport.abort()

    def garble(self) -> None:
        """Send data that can't be decompressed, between two messages."""
        self._transport.write(garbage())

    def mute(self, on: bool) -> None:
        """Simulate a half-open connection: TCP stays up, but nothing is sent or answered."""
        self.muted = on
        self._wake.set()

    async def room(self) -> None:
        """Wait until the client has read enough and the queue has room."""
        if len(self._queue) > QUEUE_HIGH and not self.closed:
            self._room.clear()
            await self._room.wait()

    async def pump(self) -> None:
        """Write the queue to the socket until cancelled or closed."""
        try:
            while not self.closed:
                await self._wake.wait()
                self._wake.clear()
                while self._queue and not self.muted and not self.closed:
                    await self._write_batch()
        except ConnectionError:
            # The client has disconnected; the reading side reports how.
            return
        finally:
            self.finish()

    def finish(self) -> None:
        """Stop writing, and end all waits for room."""
        self.closed = True
        self._queue.clear()
        self._room.set()
        self._wake.set()

    async def _write_batch(self) -> None:
        queue, encoder = self._queue, self._encoder
        parts: list[bytes] = []
        code: int | None = None
        while queue and len(parts) < BATCH:
            item = queue.popleft()
            if isinstance(item, Frame):
                parts.append(encoder.frame(item))
            elif isinstance(item, bytes):
                parts.append(encoder.text(item))
            else:
                code = item
                break
        if parts:
            self._transport.write(encoder.messages(parts))
            await self._request.writer.drain()
        if len(queue) <= QUEUE_HIGH // 2:
            self._room.set()
        if code is not None:
            self.close_sent = code
            await self.socket.close(code=code)
            self.finish()
