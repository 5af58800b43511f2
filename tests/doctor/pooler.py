"""Stands before PostgreSQL like a pooler that loses what such poolers lose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_NOTIFICATION = b"A"
_TLS = 80877103


@asynccontextmanager
async def forgetful_pooler(host: str, port: int, *, forgets: bytes = b"") -> AsyncIterator[int]:
    """The port of a proxy that passes everything on but one parameter of the session, or notifications."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, port)
        with suppress(OSError, asyncio.IncompleteReadError):
            await _begin(reader, writer, there_writer, forgets)
            await asyncio.gather(
                _all(reader, there_writer),
                _all_but(_NOTIFICATION if not forgets else b"", there_reader, writer),
            )
        there_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _begin(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: asyncio.StreamWriter, forgets: bytes
) -> None:
    """The session's first message, which names its parameters; there is no TLS here."""
    while True:
        length = int.from_bytes(await reader.readexactly(4))
        body = await reader.readexactly(length - 4)
        if int.from_bytes(body[:4]) != _TLS:
            break
        writer.write(b"N")
    words = body[4:].rstrip(b"\0").split(b"\0")
    pairs = [pair for pair in zip(words[::2], words[1::2], strict=True) if pair[0] != forgets]
    told = body[:4] + b"".join(name + b"\0" + value + b"\0" for name, value in pairs) + b"\0"
    there.write((len(told) + 4).to_bytes(4) + told)


async def _all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _all_but(left_out: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        kind = await reader.readexactly(1)
        length = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(length) - 4)
        if kind != left_out:
            writer.write(kind + length + body)
            await writer.drain()
