"""A TCP proxy in front of nats-server that notes every acknowledgement and can be slow.

A sandbox's stream lies in memory and goes when the sandbox is destroyed: what was stored there and is gone
can't be read back. The acknowledgement that JetStream gave for it is the proof that it was delivered.

The text protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sandbox_bot.embedded import NatsServer

HOST = "127.0.0.1"
_CHUNK = 1 << 18
_WITH_PAYLOAD = {b"PUB", b"HPUB", b"MSG", b"HMSG"}


@dataclass(frozen=True, slots=True)
class Ack:
    """JetStream stored a message, or had stored it before; `at` is in seconds since the epoch."""

    subject: str
    stream: str
    at: float
    duplicate: bool


class NatsTap:
    """Passes everything on unchanged; `delay` (seconds) holds back what the server says."""

    def __init__(self, target: NatsServer) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._open: dict[asyncio.StreamWriter, _LinkBook] = {}
        self.delay = 0.0
        self.acks: dict[str, list[Ack]] = defaultdict(list)
        """Acknowledgements by message id."""

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("the tap is not open")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """For `NATS_URL`."""
        return f"nats://{HOST}:{self.port}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[NatsTap]:
        """Listen on the loopback interface until the body is left."""
        self._server = await asyncio.start_server(self._accepted, HOST, 0, limit=_CHUNK)
        try:
            yield self
        finally:
            self._server.close()
            for link in list(self._links):
                link.cancel()
            await asyncio.gather(*self._links, return_exceptions=True)

    async def end_links(self, said: str) -> int:
        """Have the server say that it ends each connection, and why; returns how many those were."""
        ended = 0
        for writer, book in list(self._open.items()):
            # Between two messages: anywhere else the words would be taken for a part of one.
            while book.amid_message:
                await asyncio.sleep(0.001)
            writer.write(f"-ERR '{said}'\r\n".encode())
            writer.close()
            ended += 1
        return ended

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._serve(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._link(reader, writer)
        except OSError:
            # The server is away or has gone: the client finds its connection closed, as without a tap.
            pass
        finally:
            writer.close()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection(HOST, self._target.port, limit=_CHUNK)
        book = self._open[writer] = _LinkBook(self.acks)
        there = asyncio.create_task(_carry(reader, upstream, book.from_client))
        back = asyncio.create_task(self._carry_back(upstream_reader, writer, book.from_server))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            if there.done() and not upstream.is_closing():
                # The client is gone; what the server had acknowledged by then is read to its end.
                upstream.write_eof()
                await asyncio.wait({back}, timeout=1.0)
        finally:
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            upstream.close()
            del self._open[writer]

    async def _carry_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None]
    ) -> None:
        waiting: deque[tuple[float, bytes]] = deque()
        arrived = asyncio.Event()

        async def release() -> None:
            while True:
                await arrived.wait()
                arrived.clear()
                while waiting:
                    due, data = waiting[0]
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    waiting.popleft()
                    writer.write(data)
                    await writer.drain()

        releaser = asyncio.create_task(release())
        try:
            while data := await reader.read(_CHUNK):
                note(data)
                if waiting or self.delay:
                    waiting.append((time.monotonic() + self.delay, data))
                    arrived.set()
                else:
                    writer.write(data)
                    await writer.drain()
        finally:
            releaser.cancel()
            await asyncio.gather(releaser, return_exceptions=True)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None]
) -> None:
    while data := await reader.read(_CHUNK):
        note(data)
        writer.write(data)
        await writer.drain()


class _Messages:
    """Splits one direction of a connection into control lines with their payloads."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def unfinished(self) -> bool:
        """True when a part of a message has come."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[tuple[list[bytes], bytes]]:
        """The messages that are complete now: the words of the control line, and the payload."""
        rest = self._rest
        rest += data
        found: list[tuple[list[bytes], bytes]] = []
        start = 0
        while (end := rest.find(b"\r\n", start)) >= 0:
            words = bytes(rest[start:end]).split()
            after = end + 2
            payload = b""
            if words and words[0].upper() in _WITH_PAYLOAD:
                size = int(words[-1])
                if len(rest) < after + size + 2:
                    break
                payload = bytes(rest[after : after + size])
                after += size + 2
            if words:
                found.append((words, payload))
            start = after
        del rest[:start]
        return found


class _LinkBook:
    """Which acknowledgement of one connection answers which publication."""

    def __init__(self, acks: dict[str, list[Ack]]) -> None:
        self._acks = acks
        self._asked: dict[bytes, tuple[str, str]] = {}
        self._there = _Messages()
        self._back = _Messages()

    @property
    def amid_message(self) -> bool:
        """True while the server has said only a part of a message."""
        return self._back.unfinished

    def from_client(self, data: bytes) -> None:
        for words, payload in self._there.feed(data):
            if words[0].upper() == b"HPUB" and len(words) == 5:
                headers = payload[: int(words[3])]
                identity = _header(headers, b"Nats-Msg-Id")
                if identity is not None:
                    self._asked[words[2]] = (identity, words[1].decode())

    def from_server(self, data: bytes) -> None:
        for words, payload in self._back.feed(data):
            if words[0] != b"MSG":
                continue
            asked = self._asked.pop(words[1], None)
            if asked is None:
                continue
            answer = json.loads(payload)
            if "error" not in answer:
                identity, subject = asked
                duplicate = bool(answer.get("duplicate"))
                self._acks[identity].append(Ack(subject, answer["stream"], time.time(), duplicate))


def _header(block: bytes, name: bytes) -> str | None:
    start = block.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    return block[start : block.index(b"\r\n", start)].strip().decode()
