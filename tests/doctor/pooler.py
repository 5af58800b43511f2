"""Stands before PostgreSQL like a pooler in transaction mode, as far as notifications go: it loses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_NOTIFICATION = b"A"


@asynccontextmanager
async def forgetful_pooler(host: str, port: int) -> AsyncIterator[int]:
    """The port of a proxy that passes everything on but `NotificationResponse`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, port)
        with suppress(OSError, asyncio.IncompleteReadError):
            await asyncio.gather(_all(reader, there_writer), _all_but_notifications(there_reader, writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _all_but_notifications(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # The answer to the question for TLS is a single byte.
    kind = await reader.readexactly(1)
    if kind == b"N":
        writer.write(kind)
        kind = await reader.readexactly(1)
    while True:
        length = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(length) - 4)
        if kind != _NOTIFICATION:
            writer.write(kind + length + body)
            await writer.drain()
        kind = await reader.readexactly(1)
