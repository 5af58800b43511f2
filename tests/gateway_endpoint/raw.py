"""A client that shows every byte."""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from sandbox_core import tasks

from .stage import Addresses

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ALL = (1 << 26) - 1
_HEARTBEAT_ACK = 11


class Raw:
    """One connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, compress: str = "") -> None:
        self.socket = socket
        self._inflate: Any = {
            "": None,
            "zlib-stream": zlib.decompressobj,
            "zstd-stream": zstd.ZstdDecompressor,
        }[compress]
        self._inflate = self._inflate and self._inflate()
        self.texts: list[bytes] = []
        """Everything that came."""
        self.sequence: int | None = None
        self.session_id = ""
        self._beats = 0

    async def receive(self, within: float = 60.0) -> dict[str, Any]:
        """The next payload. Raises `ConnectionError` with the code at the end of the connection."""
        while (read := await self._receive(within))["op"] == _HEARTBEAT_ACK and self._beats:
            self._beats -= 1
        return read

    async def beat(self, every: float) -> None:
        """Send heartbeats, whose answers nobody sees, until the connection ends."""
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(every)
                self._beats += 1
                await self.send(1, self.sequence)

    async def _receive(self, within: float) -> dict[str, Any]:
        message = await self.socket.receive(timeout=within)
        if message.type is aiohttp.WSMsgType.CLOSE:
            # The socket's own code is 1006 when the server has gone before our answer to this.
            raise ConnectionError(message.data)
        if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
            raise ConnectionError(self.socket.close_code)
        data = message.data.encode() if isinstance(message.data, str) else message.data
        text = data if self._inflate is None else self._inflate.decompress(data)
        self.texts.append(text)
        read: dict[str, Any] = json.loads(text)
        if read["s"] is not None:
            assert read["s"] >= (self.sequence or 0)
            self.sequence = read["s"]
        if read["t"] == "READY":
            self.session_id = read["d"]["session_id"]
        return read

    async def send(self, op: int, body: object = None) -> None:
        await self.socket.send_json({"op": op, "d": body})

    async def until(self, wanted: Callable[[dict[str, Any]], object]) -> list[dict[str, Any]]:
        """Everything up to the payload that is wanted."""
        found = []
        while not found or not wanted(found[-1]):
            found.append(await self.receive())
        return found

    async def until_event(self, event: str) -> list[dict[str, Any]]:
        return await self.until(lambda payload: payload["t"] == event)

    async def until_content(self, content: str) -> list[dict[str, Any]]:
        """Everything up to the message with this content."""
        return await self.until(
            lambda payload: payload["t"] == "MESSAGE_CREATE" and payload["d"]["content"] == content
        )

    async def close_code(self) -> int:
        """What the server closes with, whatever comes before."""
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.receive()
                except ConnectionError as ended:
                    return int(ended.args[0] or 0)

    async def identify(self, token: str, **others: Any) -> list[dict[str, Any]]:
        """Begin a session. Return READY and every GUILD_CREATE."""
        self.sequence = None
        await self.send(2, {"token": token, "intents": ALL, "properties": {}, **others})
        found = await self.until_event("READY")
        return found + [await self.receive() for _ in found[-1]["d"]["guilds"]]

    async def resume(self, token: str, session_id: str, sequence: int) -> None:
        self.sequence = sequence
        await self.send(6, {"token": token, "session_id": session_id, "seq": sequence})


@asynccontextmanager
async def connected(process: Addresses, query: str = "v=10&encoding=json") -> AsyncIterator[Raw]:
    """A connection that has got HELLO."""
    compress = next((each[9:] for each in query.split("&") if each.startswith("compress=")), "")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{process.gateway_url}?{query}", max_msg_size=0) as socket,
    ):
        raw = Raw(socket, compress)
        hello = await raw.receive()
        assert (hello["op"], hello["s"]) == (10, None)
        assert hello["d"]["heartbeat_interval"] > 0
        beating = asyncio.create_task(raw.beat(hello["d"]["heartbeat_interval"] / 3000))
        try:
            yield raw
        finally:
            await tasks.end(beating)
