"""A server that is reached again and says nothing sensible: each attempt is over before the next."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter

from pydantic import SecretStr

from sandbox_core.nats.connection import NatsConnection

from .conftest import until

_GREETING = b'INFO {"server_id":"X","version":"2.10.0","headers":true,"max_payload":1048576}\r\n'


async def test_a_connection_that_fails_in_its_handshake_is_closed() -> None:
    opened, closed = 0, 0
    away = asyncio.Event()

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal opened, closed
        if not away.is_set():
            writer.write(_GREETING)
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
            await away.wait()
            writer.close()
        else:
            opened += 1
            writer.write(b"hello\r\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()
            closed += 1

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    connection = NatsConnection()
    try:
        url = SecretStr(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await connection.connect(url, name="test", within=60)
        away.set()
        await until(lambda: opened >= 2)
        await until(lambda: closed >= opened - 1, within=10)
    finally:
        await connection.close()
        server.close()
    await until(lambda: closed == opened)
