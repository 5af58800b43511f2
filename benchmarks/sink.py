"""A WebSocket client that only counts messages, so that the sender is what is measured."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from .task import identify

_QUIET = 0.3


class Sink(asyncio.Protocol):
    """Reads frame headers (RFC 6455, section 5.2) and skips what they announce."""

    def __init__(self) -> None:
        self.messages = 0
        self._upgraded = asyncio.Event()
        self._rest = b""
        self._skip = 0

    @asynccontextmanager
    async def connected(self, url: str, token: str) -> AsyncIterator[None]:
        """Connect, identify, and count until the body is left."""
        address = urlsplit(url)
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: self, address.hostname or "", address.port or 0
        )
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            transport.write(
                f"GET /?v=10&encoding=json&compress=zlib-stream HTTP/1.1\r\nHost: {address.netloc}\r\n"
                f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            await self._upgraded.wait()
            transport.write(_masked(json.dumps(identify(token)).encode()))
            yield
        finally:
            transport.close()

    async def quiet(self) -> int:
        """The count once no message has come for a moment."""
        before = -1
        while before != self.messages or not before:
            before = self.messages
            await asyncio.sleep(_QUIET)
        return before

    def data_received(self, data: bytes) -> None:
        """Count the messages that begin in `data`."""
        if not self._upgraded.is_set():
            self._rest += data
            head, found, data = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                raise ConnectionError("the simulator did not upgrade the connection")
            self._rest = b""
            self._upgraded.set()
        if self._skip >= len(data):
            self._skip -= len(data)
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position, size = self._skip, len(data)
        self._skip = 0
        count = 0
        while position < size:
            short = data[position + 1] & 0x7F if position + 1 < size else 0
            head_size = 2 if short < 126 else 4 if short == 126 else 10
            if position + head_size > size:
                self._rest = data[position:]
                break
            length = short
            if head_size > 2:
                length = int.from_bytes(data[position + 2 : position + head_size])
            count += 1
            position += head_size + length
        else:
            self._skip = position - size
        self.messages += count


def _masked(payload: bytes) -> bytes:
    """A text frame as clients send it; the mask may be zero. At most 65,535 bytes."""
    if len(payload) < 126:
        return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload
    return bytes((0x81, 0x80 | 126)) + len(payload).to_bytes(2) + bytes(4) + payload
