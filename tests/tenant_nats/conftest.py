"""The sandboxes' nats-server, and the parts of the bot that lend its accounts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from sandbox_bot.embedded import TenantNatsServer
from sandbox_core.addresses import NatsAddress
from sandbox_core.credentials import CredentialsKey
from sandbox_core.models import Sandbox, SandboxStatus, short_id
from sandbox_core.nats.tenant.callout import LoginRates
from sandbox_core.nats.tenant.configuration import TenantLimits
from sandbox_core.postgres import create_pool, nats_slots
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.subjects import schema_name
from sandbox_core.tenant_nats import TenantNats, open_tenant_nats

KEY = "k" * 32
LONGEST = timedelta(hours=168)
MIB = 1024 * 1024
LIMITS = TenantLimits(slots=6, memory=4 * MIB, max_payload=MIB)


MANY = LoginRates(1000, 1000, 1000, 1000)
"""All tests are on one host."""


def sandbox_of(generation: int = 1, life: timedelta = timedelta(hours=1)) -> Sandbox:
    """A running sandbox that only NATS knows."""
    made, now = uuid4(), datetime.now(UTC)
    return Sandbox(
        id=made,
        name=f"nats-{made.hex[:6]}",
        owner="200000000000000001",
        status=SandboxStatus.RUNNING,
        schema_name=schema_name(short_id(made)),
        created_at=now,
        expires_at=now + life,
        generation=generation,
        key_id=CredentialsKey(SecretStr(KEY)).fingerprint,
    )


@dataclass
class Bot:
    """What a bot process has of the sandboxes' NATS."""

    pool: Pool
    nats: TenantNats
    provisioned: list[Sandbox] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.servers, self.streams, self.lending = self.nats.servers, self.nats.streams, self.nats.lending
        self.logins, self.namespace = self.nats.logins, self.nats.namespace
        self.responder = self.nats.responder

    async def sandbox(self) -> Sandbox:
        """Provision a sandbox, which the test's end drops."""
        made = sandbox_of()
        self.provisioned.append(made)
        await self.namespace.provision(made)
        return made

    async def slot(self, sandbox: Sandbox) -> int:
        found = await self.namespace.slot_of(sandbox.id)
        assert found is not None
        return found

    async def logins_cleared(self, sandbox: Sandbox) -> bool:
        async with connected(self.pool) as connection:
            row = await nats_slots.of_sandbox(connection, sandbox.id)
        return row is None or not row.password_hash

    async def send(self, sandbox: Sandbox, text: str, message_id: str | None = None) -> Any:
        """Publish an event of the sandbox as the bot does."""
        headers = {} if message_id is None else {"Nats-Msg-Id": message_id}
        subject = f"sandbox.{sandbox.id}.events.MESSAGE_CREATE"
        return await self.streams.publish(await self.slot(sandbox), subject, text.encode(), headers)

    def url(self, sandbox: Sandbox) -> str:
        """What `connect` would show."""
        return self.logins.variables(sandbox)["NATS_URL"]


@asynccontextmanager
async def bot_process(
    pool: Pool,
    url: str,
    *,
    rest: timedelta = timedelta(0),
    workers: str = "",
    rates: LoginRates = MANY,
    limits: TenantLimits = LIMITS,
    **options: Any,
) -> AsyncIterator[Bot]:
    """The parts of one bot process, connected to the server at `url`; `workers` is where workers connect."""
    async with open_tenant_nats(
        pool,
        NatsAddress.parse(url),
        CredentialsKey(SecretStr(KEY)),
        longest_life=LONGEST,
        worker_address=NatsAddress.parse(workers or url),
        rest=rest,
        rates=rates,
        limits=limits,
        **options,
    ) as made:
        yield Bot(pool, made)


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TenantNatsServer]:
    directory = tmp_path_factory.mktemp("tenant-nats")
    made = TenantNatsServer(directory / "data", directory / "nats.log", KEY, limits=LIMITS)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    made = await create_pool(database_url, max_size=4)
    yield made
    await made.close()


@pytest.fixture
async def bot(server: TenantNatsServer, pool: Pool) -> AsyncIterator[Bot]:
    if not server.running:
        await server.start()
    async with bot_process(pool, server.url) as made:
        yield made
        for sandbox in made.provisioned:
            await made.namespace.drop(sandbox)


@pytest.fixture
async def sandbox(bot: Bot) -> Sandbox:
    return await bot.sandbox()


class Worker:
    """A plain client of nats-py, with what the server objected to."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.disconnected = asyncio.Event()
        self.closed = asyncio.Event()
        self.client: Client

    async def connect(self, url: str, **options: Any) -> None:
        async def error(problem: Exception) -> None:
            self.errors.append(str(problem) or type(problem).__name__)

        async def disconnected() -> None:
            self.disconnected.set()

        async def closed() -> None:
            self.closed.set()

        given = {"allow_reconnect": False, "connect_timeout": 5, **options}
        self.client = Client()
        try:
            await self.client.connect(
                url, error_cb=error, disconnected_cb=disconnected, closed_cb=closed, **given
            )
        except BaseException:
            await self._forget()
            raise

    async def _forget(self) -> None:
        # nats-py 2.16 leaves the socket of a refused connection open.
        transport: Any = self.client._transport
        if transport is not None:
            transport.close()
            with suppress(OSError):
                await transport.wait_closed()

    async def close(self) -> None:
        if not self.client.is_closed:
            await self.client.close()
        await self._forget()


@asynccontextmanager
async def worker(url: str, **options: Any) -> AsyncIterator[Worker]:
    """A worker that is connected."""
    made = Worker()
    await made.connect(url, **options)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def raw(url: str, *lines: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that has logged in and sent these lines."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=4096)
    await reader.readline()
    login = json.dumps({"verbose": False, "user": parts.username, "pass": parts.password})
    writer.write("".join(f"{line}\r\n" for line in (f"CONNECT {login}", *lines)).encode())
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def refused(url: str) -> bool:
    """Whether the server lets nobody in with this."""
    try:
        async with worker(url) as connected:
            # nats-py 2.16 returns without a connection when it waits in vain for the first PONG.
            if not connected.client.is_connected:
                return True
            await connected.client.flush(timeout=5)
            return False
    except (nats.errors.Error, OSError, TimeoutError):
        return True


async def eventually(what: Callable[[], Awaitable[bool]], within: float = 15.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(within):
        while not await what():
            await asyncio.sleep(0.02)


def log_of(server: TenantNatsServer) -> Path:
    return server._log
