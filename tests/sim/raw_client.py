"""A gateway client without a library: says what a test tells it and keeps what it gets."""

from __future__ import annotations

import json
import zlib
from typing import Any

import aiohttp
from backports import zstd

from discord_sim import DiscordSim

JsonObject = dict[str, Any]

_COMES_WITHIN = 60.0


class RawClient:
    """One WebSocket to the gateway."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, compress: str | None) -> None:
        self._socket = socket
        self._compress = compress
        self._inflater: Any = None
        if compress is not None:
            self._inflater = zstd.ZstdDecompressor() if compress == "zstd-stream" else zlib.decompressobj()
        self.frames: list[bytes] = []
        self.close_code: int | None = None

    @classmethod
    async def open(
        cls,
        http: aiohttp.ClientSession,
        sim: DiscordSim,
        *,
        compress: str | None = None,
        url: str | None = None,
        identify: bool = False,
        whole: bool = True,
        shard: tuple[int, int] = (0, 1),
        intents: int = (1 << 9) | 1,
    ) -> RawClient:
        """Connect and read HELLO; with ``identify`` also read up to READY; nothing if not ``whole``."""
        query = "?v=10&encoding=json" + (f"&compress={compress}" if compress else "")
        socket = await http.ws_connect((url or sim.gateway_url) + query, max_msg_size=0, autoclose=False)
        client = cls(socket, compress=compress)
        if whole:
            hello = await client.read()
            assert hello["op"] == 10
        if identify:
            await client.identify(sim.token, shard=shard, intents=intents)
            assert (await client.read())["t"] == "READY"
        return client

    async def send(self, op: int, data: object) -> None:
        """Send one message."""
        await self._socket.send_json({"op": op, "d": data})

    async def send_text(self, text: str) -> None:
        """Send whatever."""
        await self._socket.send_str(text)

    async def identify(self, token: str, *, shard: object = (0, 1), intents: object = 513) -> None:
        """Send IDENTIFY."""
        body: JsonObject = {"token": token, "properties": {}, "intents": intents, "compress": True}
        await self.send(2, {**body, "shard": shard})

    async def resume(self, token: str, session_id: str, sequence: int | None) -> None:
        """Send RESUME."""
        await self.send(6, {"token": token, "session_id": session_id, "seq": sequence})

    async def piece(self) -> bytes:
        """What the next message adds, which may be a part of an event or several."""
        message = await self._socket.receive(timeout=_COMES_WITHIN)
        assert message.type is aiohttp.WSMsgType.BINARY
        return bytes(self._inflater.decompress(message.data))

    async def raw(self, timeout: float = _COMES_WITHIN) -> bytes | None:
        """The next message's text, or None when the server has closed."""
        message = await self._socket.receive(timeout=timeout)
        if message.type is aiohttp.WSMsgType.TEXT:
            text = str(message.data).encode()
        elif message.type is aiohttp.WSMsgType.BINARY:
            assert self._inflater is not None, "binary without compression"
            if self._compress == "zlib-stream":
                assert message.data.endswith(b"\x00\x00\xff\xff")
            text = self._inflater.decompress(message.data)
        else:
            self.close_code = message.data if message.type is aiohttp.WSMsgType.CLOSE else 1006
            return None
        self.frames.append(text)
        return text

    async def read(self, timeout: float = _COMES_WITHIN) -> JsonObject:
        """The next message."""
        text = await self.raw(timeout)
        assert text is not None, f"closed with {self.close_code}"
        message: JsonObject = json.loads(text)
        return message

    async def until(self, event: str) -> list[JsonObject]:
        """Messages up to and including this event."""
        seen = [await self.read()]
        while seen[-1]["t"] != event:
            seen.append(await self.read())
        return seen

    async def closed(self) -> int | None:
        """Read until the server closes; the close code."""
        while await self.raw() is not None:
            pass
        return self.close_code

    async def close(self, code: int) -> None:
        """Close from this side."""
        await self._socket.close(code=code)
