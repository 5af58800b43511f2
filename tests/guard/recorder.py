"""A Discord that notes every byte it gets, over real HTTP, and knows a few channels, webhooks and invites."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

LIMITS = {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4", "X-RateLimit-Bucket": "abcd"}


@dataclass(frozen=True)
class Request:
    """One request that came to its end."""

    method: str
    target: str
    headers: dict[str, str]
    """By lower-case names."""
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query and its version."""
        return self.target.partition("?")[0].removeprefix("/api/v10").removeprefix("/api/v9")

    @property
    def query(self) -> str:
        """What comes after the question mark."""
        return self.target.partition("?")[2]

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


@dataclass
class Answer:
    """What to answer."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json", **LIMITS})
    missing: int = 0
    """How many bytes of the body do not come, before the connection ends."""


@dataclass
class Recorder:
    """The requests in the order of their ends, and all bytes, also of requests without an end."""

    requests: list[Request] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    channels: dict[str, str | None] = field(default_factory=dict)
    """The guild of each channel; None for a direct message."""
    webhooks: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The guild and the token of each webhook."""
    invites: dict[str, str] = field(default_factory=dict)
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    """For a method and a path, instead of what would be answered."""
    port: int = 0

    @property
    def base(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self.port}/api/v10"

    def clear(self) -> None:
        """Forget what came."""
        self.requests.clear()
        self.received.clear()

    def calls(self, path: str) -> list[Request]:
        """Return the requests with this path."""
        return [each for each in self.requests if each.path == path]

    def _answer(self, request: Request) -> Answer:
        known = self.answers.get((request.method, request.path))
        if known is not None:
            return known
        parts = request.path.strip("/").split("/")
        if request.method == "GET" and len(parts) >= 2:
            found = self._look_up(parts)
            if found is not None:
                return found
        if request.method == "DELETE":
            return Answer(204, None)
        return Answer(200, {"ok": True})

    def _look_up(self, parts: list[str]) -> Answer | None:
        match parts:
            case ["channels", channel_id]:
                if channel_id not in self.channels:
                    return Answer(404, {"message": "Unknown Channel", "code": 10003})
                guild_id = self.channels[channel_id]
                where = {} if guild_id is None else {"guild_id": guild_id}
                return Answer(200, {"id": channel_id, "type": 0, **where})
            case ["webhooks", webhook_id]:
                if webhook_id not in self.webhooks:
                    return Answer(404, {"message": "Unknown Webhook", "code": 10015})
                return Answer(200, {"id": webhook_id, "guild_id": self.webhooks[webhook_id][0]})
            case ["webhooks", webhook_id, token]:
                guild_id, right = self.webhooks.get(webhook_id, ("", ""))
                if token != right:
                    return Answer(401, {"message": "Invalid Webhook Token", "code": 50027})
                return Answer(200, {"id": webhook_id, "guild_id": guild_id, "token": token})
            case ["invites", code]:
                if code not in self.invites:
                    return Answer(404, {"message": "Unknown Invite", "code": 10006})
                return Answer(200, {"code": code, "guild": {"id": self.invites[code]}})
            case ["guilds", "templates", code] if code in self.invites:
                return Answer(200, {"code": code, "source_guild_id": self.invites[code]})
            case ["guilds", guild_id, "channels"]:
                theirs = [each for each, guild in self.channels.items() if guild == guild_id]
                return Answer(200, [{"id": each, "guild_id": guild_id} for each in theirs])
        return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while (request := await self._read(reader)) is not None:
                self.requests.append(request)
                answer = self._answer(request)
                body = b"" if answer.status == 204 else _bytes(answer.body)
                head = [f"HTTP/1.1 {answer.status} Answer", f"Content-Length: {len(body) + answer.missing}"]
                head += [f"{name}: {value}" for name, value in answer.headers.items()]
                writer.write("\r\n".join([*head, "", ""]).encode() + body)
                await writer.drain()
                if answer.missing:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.received += head
        first, *lines = head.decode("latin-1").strip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int((await self._line(reader)).strip(), 16):
                body += await self._exactly(reader, size)
                await self._line(reader)
            await self._line(reader)
        elif length := int(headers.get("content-length", 0)):
            body = await self._exactly(reader, length)
        return Request(method, target, headers, body)

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        line = await reader.readuntil(b"\r\n")
        self.received += line
        return line

    async def _exactly(self, reader: asyncio.StreamReader, size: int) -> bytes:
        data = await reader.readexactly(size)
        self.received += data
        return data


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    """Run one on a free port."""
    recording = Recorder()
    server = await asyncio.start_server(recording.serve, "127.0.0.1", 0)
    recording.port = server.sockets[0].getsockname()[1]
    try:
        yield recording
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None
