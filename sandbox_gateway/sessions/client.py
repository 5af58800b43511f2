"""One client's WebSocket."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import WSMsgType, web

from ..tenants import Holder
from .compression import Encoder
from .protocol import CloseCode, Closing, Op, operation

NEWEST = "10"
_CLOSE_WITHIN = 1.0


class Client:
    """Sends to a client. A payload is encoded and written in one step, so any task may send."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, encoder: Encoder) -> None:
        self._request = request
        self._socket = socket
        self._encoder = encoder
        self.version = request.query.get("v", NEWEST)
        """Of the gateway, as the client has asked for."""
        self.closing: Closing | None = None
        """Why we have ended it."""
        self.holder: Holder | None = None
        """Whose token it has shown."""
        self.acknowledged = 0
        """The last sequence number that the client has confirmed in a heartbeat."""

    async def send(self, payload: bytes) -> None:
        """Send a payload; waits while the client does not read. Raises `ConnectionResetError`."""
        if self._socket.closed:
            raise ConnectionResetError("the client has gone")
        kind = WSMsgType.BINARY if self._encoder.binary else WSMsgType.TEXT
        await self._socket.send_frame(self._encoder.encode(payload), kind)

    async def operate(self, op: Op, body: object = None) -> None:
        """Send what is no event."""
        await self.send(operation(op, body))

    async def close(self, closing: Closing) -> None:
        """End the connection; one that does not read is cut."""
        if self.closing is not None:
            return
        self.closing = closing
        # The client may have gone, or not read: then nobody can be told.
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(_CLOSE_WITHIN):
                await self._socket.close(code=closing.code, message=closing.reason.encode()[:120])
        transport = self._request.transport
        if transport is not None:
            # What is still to be written would be waited for as long as the client likes.
            (transport.abort if transport.get_write_buffer_size() else transport.close)()


RESTART = Closing(CloseCode.RECONNECT, "this process ends; resume at another one")
