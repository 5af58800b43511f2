"""The sandboxes' own servers in a scenario, and what their owners do with the logins they are shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers, PostgresServer, TenantNatsServer, ValkeyServer
from sandbox_core.postgres.errors import DRIVER_ERRORS
from tests.small_disk import SmallDisk, small_disk

from .bots import RECOVERS_WITHIN, ChaosError
from .reader import StreamReader, reading
from .tap import NatsTap

_LOGS_IN_WITHIN = 5.0


@dataclass
class Tenants:
    """PostgreSQL, Valkey and NATS of the sandboxes, apart from the bot's own."""

    postgres: PostgresServer
    valkey: ValkeyServer
    nats: TenantNatsServer
    tap: NatsTap
    key: str
    disk: SmallDisk | None
    """Where PostgreSQL's data are, when it is small."""
    logins: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """What `connect` has shown, by the sandbox's name."""
    readers: dict[str, StreamReader] = field(default_factory=dict)
    """One for each sandbox, with its own login."""

    @property
    def environment(self) -> dict[str, str]:
        """The bot's settings. Workers reach NATS past the tap."""
        return {
            "SANDBOX_ISOLATION": "enforced",
            "SANDBOX_DATABASE_URL": self.postgres.tenants_url,
            "SANDBOX_REDIS_URL": self.valkey.url,
            "SANDBOX_NATS_URL": self.tap.url,
            "SANDBOX_WORKER_NATS_URL": self.nats.url,
            "SANDBOX_CREDENTIALS_KEY": self.key,
        }

    async def follow(
        self, stack: AsyncExitStack, logins: Mapping[str, Mapping[str, str]]
    ) -> dict[str, StreamReader]:
        """Have a worker of each of these sandboxes read its events."""
        self.logins.update(logins)
        for name, variables in logins.items():
            url = variables["NATS_URL"]
            self.readers |= await stack.enter_async_context(reading([url], {name: "SANDBOX"}))
        return self.readers

    async def get_events(self) -> None:
        """Return when every sandbox has had an event that was stored from now on."""
        since = time.time()
        for name, reader in self.readers.items():
            try:
                async with asyncio.timeout(RECOVERS_WITHIN):
                    while not reader.messages or reader.messages[-1].at < since:
                        await asyncio.sleep(0.02)
            except TimeoutError:
                raise ChaosError(f"{name} gets no events again within {RECOVERS_WITHIN:g} s") from None

    async def log_in(self) -> None:
        """Return when every sandbox's logins to PostgreSQL and Redis do work."""
        for name, variables in self.logins.items():
            problem: BaseException | None = None
            try:
                async with asyncio.timeout(_LOGS_IN_WITHIN):
                    while (problem := await _works(variables)) is not None:
                        await asyncio.sleep(0.05)
            except TimeoutError:
                raise ChaosError(f"{name} can't work within {_LOGS_IN_WITHIN:g} s: {problem!r}") from None


async def _works(variables: Mapping[str, str]) -> Exception | None:
    try:
        connection = await asyncpg.connect(variables["DATABASE_URL"], timeout=_LOGS_IN_WITHIN)
        try:
            await connection.execute("CREATE TEMPORARY TABLE works (i int)")
        finally:
            await connection.close(timeout=_LOGS_IN_WITHIN)
        async with Redis.from_url(variables["REDIS_URL"]) as redis:
            await redis.set(f"{variables['SANDBOX_REDIS_PREFIX']}works", "x")
    except (*DRIVER_ERRORS, rd.RedisError) as error:
        return error
    return None


async def tenant_side(
    stack: AsyncExitStack, servers: EmbeddedServers, directory: Path, megabytes: int
) -> Tenants:
    """The embedded Valkey and NATS of the sandboxes, and a PostgreSQL that is not the bot's."""
    disk = None
    where = directory / "tenants"
    if megabytes:
        try:
            disk = stack.enter_context(small_disk(where, megabytes))
        except pytest.skip.Exception as error:
            raise ChaosError(str(error)) from None
    else:
        where.mkdir()
    postgres = PostgresServer(where / "postgres", directory / "tenant-postgres.log", fast=True)
    stack.push_async_callback(postgres.kill)
    await postgres.start()
    tap = await stack.enter_async_context(NatsTap(servers.tenant_nats).listening())
    return Tenants(postgres, servers.tenant_valkey, servers.tenant_nats, tap, servers.credentials_key, disk)
