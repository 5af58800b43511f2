"""Messages taken from the bytes of a real connection, however they arrive and whatever is among them."""

from __future__ import annotations

import asyncio
import json
import math
import random
import struct
from collections.abc import AsyncIterator, Callable, Collection

import aiohttp
import pytest
from aiohttp import web

from discord_sim.streams import ZstdStream
from sandbox_bot.gateway.compression import Compression
from sandbox_bot.gateway.endings import ConnectionEndedError
from sandbox_bot.gateway.inflate import stream
from sandbox_bot.gateway.reader import GatewayReader
from sandbox_core.event_router import EventRouter, GatewayIntake
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.nats.publication import Publication
from sandbox_core.routing import RouteTable, TrustedTable

GUILD = "613425648685547541"
Frames = list[bytes]


class NoRoutes:
    """All is production."""

    trusted = TrustedTable(RouteTable(), math.inf)

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable:
        return RouteTable()


class Notes:
    """A publisher that takes everything at once."""

    def __init__(self) -> None:
        self.router: EventRouter | None = None
        self.sequences: list[int] = []

    def submit(self, publication: Publication) -> None:
        self.sequences.append(int(publication.message_id.rpartition(":")[2]))
        assert self.router is not None
        asyncio.get_running_loop().call_soon(self.router.acknowledged, [publication])

    def in_flight(self) -> list[Publication]:
        return []

    def withdraw(self, publication: Publication) -> None:
        """Nothing is ever on its way."""

    async def published(self) -> list[int]:
        """What was published when nothing is left to be."""
        assert self.router is not None
        async with asyncio.timeout(60):
            await self.router.idle()
        return self.sequences


def frame(payload: bytes, first: int = 0x82) -> bytes:
    """A server's WebSocket frame."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + struct.pack("!H", size) + payload
    return bytes((first, 127)) + struct.pack("!Q", size) + payload


def event(sequence: int, name: str = "MESSAGE_CREATE", size: int = 0) -> bytes:
    data = {"guild_id": GUILD, "content": "x" * size, "noise": random.Random(sequence).random()}
    return json.dumps({"t": name, "s": sequence, "op": 0, "d": data}).encode()


class Server:
    """Sends what the test says, byte for byte."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self.closing = asyncio.Event()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.transport = request.transport  # type: ignore[assignment]
        self.connected.set()
        await self.closing.wait()
        return socket

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    application = web.Application()
    application.router.add_get("/", server.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined,union-attr]
    yield server
    server.closing.set()
    await runner.cleanup()


@pytest.fixture
async def socket(server: Server) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.port}/"  # type: ignore[attr-defined]
        async with session.ws_connect(url, max_msg_size=0, autoclose=False) as connected:
            await server.connected.wait()
            yield connected
            server.closing.set()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def reader(socket: aiohttp.ClientWebSocketResponse, notes: Notes) -> GatewayReader:
    router = EventRouter(NoRoutes(), RoutingMetrics(), max_pending=100_000)
    notes.router = router
    router.attach(notes)
    intake = GatewayIntake(router)
    intake.adopt("session", 0, 0)

    def ended() -> Exception:
        return ConnectionResetError(socket.close_code)

    return GatewayReader(socket, stream(Compression.ZSTD), intake, 0, ended)


async def begun(server: Server, reader: GatewayReader, compress: ZstdStream) -> None:
    """HELLO has come, and the reader takes bytes."""
    server.send(frame(compress.text(b'{"op":10,"d":{"heartbeat_interval":1}}')))
    assert (await reader.next()).op == 10
    reader.take_bytes()


async def read_all(reader: GatewayReader) -> list[str]:
    """Read on until the connection ends; the names of what was to be attended to."""
    names = []
    while True:
        try:
            names.append((await reader.next()).type)
        except ConnectionResetError:
            return names


@pytest.mark.parametrize("largest", [1, 3, 50, 4000, 1 << 20])
async def test_cut_anywhere_every_event_is_routed_in_order(
    server: Server, reader: GatewayReader, notes: Notes, largest: int
) -> None:
    compress, chance = ZstdStream(), random.Random(largest)
    await begun(server, reader, compress)
    data = b""
    for sequence in range(1, 101):
        if sequence % 10 == 0:
            data += frame(compress.text(event(sequence, "CHANNEL_UPDATE")))
        else:
            data += frame(compress.text(event(sequence, size=chance.choice([0, 300, 70_000]))))
    data += frame(b"\x03\xe8", 0x88)
    reading = asyncio.create_task(read_all(reader))
    position = 0
    while position < len(data):
        size = chance.randint(1, largest)
        server.send(data[position : position + size])
        position += size
        if chance.random() < 0.2:
            await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await reading == ["CHANNEL_UPDATE"] * 10
    assert await notes.published() == list(range(1, 101))


def _ping(_: ZstdStream) -> bytes:
    return frame(b"are you there", 0x89)


def _fragments(compress: ZstdStream) -> bytes:
    whole = compress.text(event(51))
    return frame(whole[:20], 0x02) + frame(b"", 0x89) + frame(whole[20:30], 0x00) + frame(whole[30:], 0x80)


def _text(_: ZstdStream) -> bytes:
    return frame(event(51), 0x81)


@pytest.mark.parametrize("odd", [_ping, _fragments, _text])
async def test_anything_else_is_aiohttps_and_nothing_overtakes_anything(
    server: Server, reader: GatewayReader, notes: Notes, odd: Callable[[ZstdStream], bytes]
) -> None:
    compress = ZstdStream()
    await begun(server, reader, compress)
    data = b"".join(frame(compress.text(event(sequence))) for sequence in range(1, 51))
    data += odd(compress)
    data += b"".join(frame(compress.text(event(sequence))) for sequence in range(52, 101))
    server.send(data + frame(b"\x03\xe8", 0x88))
    async with asyncio.timeout(60):
        assert await read_all(reader) == []
    assert await notes.published() == [s for s in range(1, 101) if s != 51 or odd is not _ping]


async def test_what_came_before_the_connection_was_lost_is_read(
    server: Server, reader: GatewayReader, notes: Notes
) -> None:
    compress = ZstdStream()
    await begun(server, reader, compress)
    server.send(b"".join(frame(compress.text(event(s, "CHANNEL_UPDATE"))) for s in range(1, 21)) + b"\x82")
    assert (await reader.next()).seq == 1
    assert server.transport is not None
    server.transport.close()
    await asyncio.sleep(0.1)
    assert notes.sequences == [1], "what is behind a frame that is attended to waits"
    async with asyncio.timeout(60):
        assert len(await read_all(reader)) == 19
    assert await notes.published() == list(range(1, 21))


async def test_nothing_is_routed_while_nobody_asks(
    server: Server, reader: GatewayReader, notes: Notes
) -> None:
    compress = ZstdStream()
    await begun(server, reader, compress)
    asking = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    server.send(frame(compress.text(event(1))))
    await asyncio.sleep(0.1)
    assert notes.sequences == []
    server.send(frame(compress.text(event(2, "CHANNEL_UPDATE"))))
    async with asyncio.timeout(60):
        assert (await reader.next()).seq == 2
    assert await notes.published() == [1, 2]


async def test_a_socket_that_is_not_read_is_held_back_and_goes_on(
    server: Server, reader: GatewayReader, notes: Notes, socket: aiohttp.ClientWebSocketResponse
) -> None:
    compress = ZstdStream()
    await begun(server, reader, compress)
    server.send(frame(compress.text(event(1, "CHANNEL_UPDATE"))))
    assert (await reader.next()).seq == 1
    for sequence in range(2, 60):
        noise = random.Random(sequence).randbytes(50_000).hex()
        raw = json.dumps({"t": "X_Y", "s": sequence, "op": 0, "d": {"guild_id": GUILD, "c": noise}})
        server.send(frame(compress.text(raw.encode())))
    async with asyncio.timeout(60):
        while not socket._conn.protocol._reading_paused:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
    server.send(frame(compress.text(event(60, "CHANNEL_UPDATE"))))
    async with asyncio.timeout(60):
        assert (await reader.next()).seq == 60
    assert await notes.published() == list(range(1, 61))


async def test_what_is_no_stream_is_said_to_who_reads(server: Server, reader: GatewayReader) -> None:
    await begun(server, reader, ZstdStream())
    server.send(frame(b"no zstd at all"))
    for _ in range(2):
        with pytest.raises(ConnectionEndedError):
            async with asyncio.timeout(60):
                await reader.next()
