"""A gateway client that does nothing but take payloads: it must cost less than what it measures."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

_MASK = b"\0\0\0\0"


class CountingClient(asyncio.Protocol):
    """One plain connection. Unmasked frames of a server are recognised by their lengths alone."""

    def __init__(self, host: str, *, keep: bool = False) -> None:
        self._host = host
        self._keep = keep
        self._buffer = bytearray()
        self._upgraded = False
        self._transport: Any = None
        self.received = 0
        self.kept: list[tuple[float, bytes]] = []
        """When each payload came, since the epoch, and its text."""
        self.ready = b""
        """The second payload."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the WebSocket."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._transport.write(
            f"GET /?v=10&encoding=json HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Count what is whole."""
        buffer = self._buffer
        buffer += data
        at = 0
        if not self._upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._upgraded, at = True, end + 4
        now = time.time()
        while len(buffer) - at >= 2:
            size, head = buffer[at + 1], 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(buffer[at + 2 : at + head], "big")
            if len(buffer) - at < head + size or (size == 0 and len(buffer) - at < head):
                break
            if self.received == 1:
                self.ready = bytes(buffer[at + head : at + head + size])
            if self._keep:
                self.kept.append((now, bytes(buffer[at + head : at + head + size])))
            self.received += 1
            at += head + size
        del buffer[:at]
        for count, done in self._waiting:
            if self.received >= count and not done.done():
                done.set_result(None)

    async def until(self, count: int) -> None:
        """Return when so many payloads have come."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, done))
        if self.received < count:
            await done

    def send(self, op: int, body: object) -> None:
        """Send a payload."""
        text = json.dumps({"op": op, "d": body}).encode()
        self._transport.write(bytes((0x81, 0x80 | 126)) + len(text).to_bytes(2, "big") + _MASK + text)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()


async def connect(url: str, token: str, *, guilds: int, keep: bool = False) -> CountingClient:
    """Return a client that has got HELLO, READY and its servers."""
    client = await _opened(url, keep=keep)
    client.send(2, {"token": token, "intents": (1 << 26) - 1, "properties": {}})
    await client.until(2 + guilds)
    return client


async def resume(url: str, token: str, before: CountingClient) -> CountingClient:
    """Return a client that has got HELLO and asked for all that came behind READY in a session before."""
    client = await _opened(url)
    ready = json.loads(before.ready)
    client.send(6, {"token": token, "session_id": ready["d"]["session_id"], "seq": ready["s"]})
    return client


async def _opened(url: str, *, keep: bool = False) -> CountingClient:
    place = urlsplit(url)
    host = f"{place.hostname}:{place.port}"
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: CountingClient(host, keep=keep), place.hostname, place.port
    )
    await client.until(1)
    return client
