"""Starts and stops the three servers together."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox_core.nats.tenant.configuration import TenantLimits

from ._data_lock import lock_data_dir
from ._errors import EmbeddedServerError
from ._nats import DEFAULT_MAX_PAYLOAD, NatsServer
from ._postgres import PostgresServer
from ._private import DIRECTORY, make_private, secret_in
from ._tenant_nats import EMBEDDED, TenantNatsServer
from ._valkey import ValkeyServer

_TENANT_MEMORY = "512mb"


@dataclass(frozen=True, slots=True, repr=False)
class EmbeddedServers:
    """The running servers; each can be stopped, killed and restarted alone."""

    postgres: PostgresServer
    valkey: ValkeyServer
    nats: NatsServer
    tenant_valkey: ValkeyServer
    """The sandboxes' own."""
    tenant_nats: TenantNatsServer
    """The sandboxes' own."""
    credentials_key: str
    """For `SANDBOX_CREDENTIALS_KEY`, kept with the data; a secret."""

    @property
    def database_url(self) -> str:
        """For `DATABASE_URL`; contains a password."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """For `REDIS_URL`; contains a password."""
        return self.valkey.url

    @property
    def tenant_settings(self) -> dict[str, str]:
        """The settings of the sandboxes' side by their fields' names; with passwords."""
        return {
            "sandbox_database_url": self.postgres.tenants_url,
            "sandbox_redis_url": self.tenant_valkey.url,
            "sandbox_nats_url": self.tenant_nats.url,
            "sandbox_credentials_key": self.credentials_key,
        }

    @property
    def nats_url(self) -> str:
        """For `NATS_URL`."""
        return self.nats.url


@asynccontextmanager
async def embedded_servers(
    data_dir: Path,
    *,
    max_payload: int = DEFAULT_MAX_PAYLOAD,
    tenant_limits: TenantLimits = EMBEDDED,
    fast: bool = False,
) -> AsyncIterator[EmbeddedServers]:
    """Run PostgreSQL, Valkey and nats-server on free ports of 127.0.0.1, with their data under `data_dir`.

    They answer when the body starts, and have ended after it, also when this process is killed. Their output
    is in `data_dir/logs`. `max_payload` is nats-server's limit in bytes,
    `tenant_limits` are those of the sandboxes' own one. `fast` is for tests: nothing is flushed to disk.

    Raises `DataDirectoryInUse` when another process uses `data_dir`, `EmbeddedExtraMissing` when the
    wheels are not installed, and `EmbeddedServerError` with the end of its log when a server does not start.
    """
    data_dir = data_dir.resolve()
    logs = data_dir / "logs"
    try:
        # Started by root, PostgreSQL runs as `nobody`, who has to pass through it.
        data_dir.mkdir(mode=DIRECTORY if os.geteuid() else 0o711, parents=True, exist_ok=True)
        make_private(logs)
    except OSError as error:
        raise EmbeddedServerError(f"The data directory {data_dir} can't be used: {error}") from error
    async with lock_data_dir(data_dir) as lock:
        key = secret_in(data_dir / "credentials.key", lambda: secrets.token_hex(32))
        servers = EmbeddedServers(
            postgres=PostgresServer(data_dir / "postgres", logs / "postgres.log", lock=lock, fast=fast),
            valkey=ValkeyServer(data_dir / "valkey", logs / "valkey.log", lock=lock, fast=fast),
            nats=NatsServer(
                data_dir / "nats", logs / "nats.log", lock=lock, fast=fast, max_payload=max_payload
            ),
            tenant_valkey=ValkeyServer(
                data_dir / "tenant-valkey",
                logs / "tenant-valkey.log",
                lock=lock,
                fast=fast,
                max_memory=_TENANT_MEMORY,
            ),
            tenant_nats=TenantNatsServer(
                data_dir / "tenant-nats",
                logs / "tenant-nats.log",
                key,
                limits=tenant_limits,
                lock=lock,
                fast=fast,
            ),
            credentials_key=key,
        )
        every = (
            servers.postgres,
            servers.valkey,
            servers.nats,
            servers.tenant_valkey,
            servers.tenant_nats,
        )
        try:
            await _all([server.start() for server in every])
            yield servers
        finally:
            await _to_the_end(_all([server.stop() for server in every]))


async def _all(work: list[Coroutine[None, None, None]]) -> None:
    """Run all coroutines at the same time to their end; then raise the first failure."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """Await `work` to its end, also during a cancellation, which is raised afterwards.

    The wait is limited: a guard kills its server after the grace period.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
