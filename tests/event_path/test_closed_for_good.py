"""What nats-py takes for the end of its connection: reloads, limits and words of a server."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from nats.aio.client import Client
from pydantic import SecretStr
from structlog.testing import capture_logs

from sandbox_bot.embedded import NatsServer
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.peer_subject import PeerSubject
from tests.embedded.reloading import reload

from .conftest import connected, until

_GREETING = b'INFO {"server_id":"X","version":"2.10.0","headers":true,"max_payload":1048576}\r\n'


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A nats-server that may be reloaded."""
    server = NatsServer(tmp_path / "nats", tmp_path / "nats.log", fast=True)
    await server.start()
    yield server
    await server.kill()


@asynccontextmanager
async def hearing(connection: NatsConnection) -> AsyncIterator[list[bytes]]:
    """What comes on one subject, over the same subscription for ever."""
    heard: list[bytes] = []
    subject = PeerSubject(connection, "told")

    async def received(message: object) -> None:
        heard.append(message.data)  # type: ignore[attr-defined]

    await subject.hear(received)
    yield heard
    await subject.close()


async def works(connection: NatsConnection, heard: list[bytes]) -> None:
    """Return when the connection is back, with the subscription, a request and JetStream."""
    await until(lambda: connection.connected)
    js = connection.client.jetstream(timeout=5)
    await js.account_info()
    heard.clear()
    await connection.client.publish("told", b"hello")
    await until(lambda: heard == [b"hello"])


async def test_too_many_connections_after_a_reload(own: NatsServer) -> None:
    async with connected(own.url) as connection, hearing(connection) as heard:
        await works(connection, heard)
        with capture_logs() as logs:
            reload(own, max_connections=0)
            await until(lambda: not connection.connected)
            await until(lambda: "maximum connections exceeded" in str(connection.trouble))
            assert f"127.0.0.1:{own.port}" in str(connection.trouble)
            await asyncio.sleep(1.5)
            reload(own, max_connections=100)
            await works(connection, heard)
    logs = [entry for entry in logs if entry["log_level"] != "debug"]
    assert [entry["event"] for entry in logs] == ["nats_closed", "nats_reconnected"]
    assert logs[0]["reason"] == "maximum connections exceeded"
    assert logs[0]["server"] == f"127.0.0.1:{own.port}"
    assert connection.trouble.reason == f"no server accepts the connection at 127.0.0.1:{own.port}"


async def test_a_payload_that_has_become_too_large(own: NatsServer) -> None:
    async with connected(own.url) as connection, hearing(connection) as heard:
        with capture_logs() as logs:
            reload(own, max_payload=100_000)
            await asyncio.sleep(0.3)
            await connection.client.publish("told", b"x" * 300_000)
            await until(lambda: bool(logs) and logs[-1]["event"] == "nats_reconnected")
            await works(connection, heard)
            assert connection.client.max_payload == 100_000
    logs = [entry for entry in logs if entry["log_level"] != "debug"]
    # The server's words may be lost: it ends the connection without having read all of the message.
    assert [entry["event"] for entry in logs] in (
        ["nats_closed", "nats_reconnected"],
        ["nats_disconnected", "nats_reconnected"],
    )
    assert logs[0].get("reason", "maximum payload violation") == "maximum payload violation"


async def pongs(reader: StreamReader, writer: StreamWriter) -> None:
    """Answer each PING until the client goes."""
    with suppress(OSError):
        while line := await reader.readline():
            if line == b"PING\r\n" and not writer.is_closing():
                writer.write(b"PONG\r\n")
    writer.close()


Answer = Callable[[StreamReader, StreamWriter], Awaitable[None]]


@asynccontextmanager
async def saying(answer: Answer) -> AsyncIterator[str]:
    """A server of the test's own; the result is its address."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"-ERR 'User Authentication Expired'\r\n", "user authentication expired"),
        (b"-ERR 'Authorization Violation'\r\n", "authorization violation"),
        (b"-ERR 'Unknown Protocol Operation'\r\n", "unknown protocol operation"),
        (b"-ERR 'Secure Connection - TLS Required'\r\n", "secure connection - tls required"),
    ],
)
@pytest.mark.parametrize("closes", [True, False])
async def test_whatever_a_server_says(said: bytes, reason: str, closes: bool) -> None:
    moments: list[float] = []
    now = asyncio.get_running_loop().time
    good = asyncio.Event()

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        moments.append(now())
        writer.write(_GREETING)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        if not good.is_set():
            writer.write(said)
            if closes:
                writer.close()
        await pongs(reader, writer)

    with capture_logs() as logs:
        async with saying(answer) as url, connected(url) as connection:
            await until(lambda: len(moments) >= 5)
            good.set()
            await until(lambda: connection.connected and logs[-1]["event"] == "nats_reconnected")
    pauses = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert pauses[-1] > pauses[0] + 0.5
    events = [entry["event"] for entry in logs]
    assert events[0] == "nats_closed"
    assert set(events) == {"nats_closed", "nats_reconnected"}
    assert {entry["reason"] for entry in logs if entry["event"] == "nats_closed"} == {reason}


async def test_what_the_server_only_objects_to_ends_nothing(own: NatsServer) -> None:
    async with connected(own.url) as connection, hearing(connection) as heard:
        for words in ("'permissions violation for publish to \"x\"'", "'invalid subject'"):
            await connection.client._process_err(words)
        assert connection.connected
        await works(connection, heard)


@pytest.mark.parametrize(
    "greeting", [b"INFO []\r\n", b"INFO " + b"x" * 100_000 + b"\r\n", b"", b"HTTP/1.1 400\r\n"]
)
async def test_a_greeting_that_can_t_be_read(greeting: bytes) -> None:
    opened = 0
    good = asyncio.Event()

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal opened
        opened += 1
        if good.is_set():
            writer.write(_GREETING)
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
            await pongs(reader, writer)
        elif greeting:
            writer.write(greeting)
        writer.close()

    async with saying(answer) as url:
        connection = NatsConnection()
        with pytest.raises(DependencyUnavailable):
            await connection.connect(SecretStr(url), name="test", within=1)
        await until(lambda: opened >= 2)
        good.set()
        await connection.connect(SecretStr(url), name="test", within=10)
        assert connection.connected
        # And the same after it has stood.
        good.clear()
        await connection.client.connect_anew()
        before = opened
        await until(lambda: opened >= before + 2)
        good.set()
        await until(lambda: connection.connected)
        await connection.close()


async def test_a_client_that_has_come_to_rest_goes_on(own: NatsServer) -> None:
    async with connected(own.url) as connection, hearing(connection) as heard:
        client = connection.client
        for task in (client._flusher_task, client._reading_task, client._ping_interval_task):
            assert task is not None
            task.cancel()
            await until(task.done)
            await until(lambda task=task: client._flusher_task is not task and connection.connected)
            await works(connection, heard)
        await client.close()
        await works(connection, heard)
        await own.kill()
        await until(lambda: not connection.connected and client._reconnection_task is not None)
        attempts = client._reconnection_task
        assert attempts is not None
        attempts.cancel()
        await until(attempts.done)
        await own.start()
        await works(connection, heard)


def test_nats_py_still_closes_as_is_relied_on() -> None:
    error, loss = inspect.getsource(Client._process_err), inspect.getsource(Client._process_op_err)
    assert "self._close(Client.CLOSED, do_cbs)" in error
    assert (
        "self._reconnection_task = asyncio.get_running_loop().create_task(self._attempt_reconnect())" in loss
    )
    attempt = inspect.getsource(Client._attempt_reconnect)
    assert "await self._select_next_server()" in attempt
    assert "await self._process_connect_init()" in attempt


async def test_words_that_what_is_sent_to_the_server_would_lose() -> None:
    """It says them after its greeting and closes; a reset outruns them when something comes then."""
    good = asyncio.Event()

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(_GREETING)
        if good.is_set():
            await pongs(reader, writer)
            return
        try:
            async with asyncio.timeout(0.1):
                await reader.read(1)
        except TimeoutError:
            writer.write(b"-ERR 'maximum connections exceeded'\r\n")
            writer.close()
        else:
            writer.transport.abort()

    with capture_logs() as logs:
        async with saying(answer) as url:
            connection = NatsConnection()
            try:
                with pytest.raises(DependencyUnavailable):
                    await connection.connect(SecretStr(url), name="test", within=0.05)
                await until(lambda: "maximum connections exceeded" in connection.trouble.problem)
                good.set()
                await until(lambda: connection.connected)
            finally:
                await connection.close()
    reasons = [line["reason"] for line in logs if line["event"] == "nats_closed"]
    assert reasons.count("maximum connections exceeded") == 1


async def test_a_flush_comes_behind_all_that_was_sent_before() -> None:
    came: list[bytes] = []

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(_GREETING)
        while line := await reader.readline():
            came.append(line.split()[0])
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    async with saying(answer) as url, connected(url) as connection:
        began = len(came)
        await connection.client.subscribe("told")
        await connection.client.flush()
        assert came[began:] == [b"SUB", b"PING"]
    plain = inspect.getsource(Client._send_ping)
    # Once nats-py itself keeps the order, ours can go.
    assert "self._transport.write(PING_PROTO)" in plain


async def test_no_attempt_outlasts_the_connection(own: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose end by a cancellation is lost, because it fails at that moment."""
    attempts: list[str] = []

    async def fail() -> None:
        attempts.append("begun")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OSError from None

    async with connected(own.url) as connection:
        client = connection.client
        monkeypatch.setattr(client, "_process_connect_init", fail)
        client.abort()
        await until(lambda: attempts)
        trying = client._reconnection_task
        assert trying is not None
    assert trying.done()
