"""The three servers together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ._errors import EmbeddedServerError
from ._lease import lease
from ._nats import DEFAULT_MAX_PAYLOAD, NatsServer
from ._postgres import PostgresServer
from ._valkey import ValkeyServer


@dataclass(frozen=True, slots=True)
class EmbeddedServers:
    """Running servers, each of which can be stopped, killed and restarted by itself."""

    postgres: PostgresServer
    valkey: ValkeyServer
    nats: NatsServer

    @property
    def database_url(self) -> str:
        """For `DATABASE_URL`; holds a password."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """For `REDIS_URL`."""
        return self.valkey.url

    @property
    def nats_url(self) -> str:
        """For `NATS_URL`."""
        return self.nats.url


@asynccontextmanager
async def embedded_servers(
    data_dir: Path, *, max_payload: int = DEFAULT_MAX_PAYLOAD, fast: bool = False
) -> AsyncIterator[EmbeddedServers]:
    """Run PostgreSQL, Valkey and nats-server on free ports of 127.0.0.1, their data kept under `data_dir`.

    They answer when the body is entered and are gone when it is left, also when this process is killed. The
    servers' output is in `data_dir/logs`. `max_payload` (bytes) is nats-server's; `fast` is for tests:
    nothing is flushed to disk.

    Raises `DataDirectoryInUse` when another process runs on `data_dir`, `EmbeddedExtraMissing` when the
    wheels are not installed, and `EmbeddedServerError` with the end of its log when a server does not start.
    """
    data_dir = data_dir.resolve()
    logs = data_dir / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedServerError(f"The data directory {data_dir} can't be used: {error}") from error
    async with lease(data_dir) as held:
        servers = EmbeddedServers(
            postgres=PostgresServer(data_dir / "postgres", logs / "postgres.log", lease=held, fast=fast),
            valkey=ValkeyServer(data_dir / "valkey", logs / "valkey.log", lease=held, fast=fast),
            nats=NatsServer(
                data_dir / "nats", logs / "nats.log", lease=held, fast=fast, max_payload=max_payload
            ),
        )
        every = (servers.postgres, servers.valkey, servers.nats)
        try:
            await _all([server.start() for server in every])
            yield servers
        finally:
            await _to_the_end(_all([server.stop() for server in every]))


async def _all(work: list[Coroutine[None, None, None]]) -> None:
    """Run them at once, each to its end; then raise the first failure."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """Await `work` even when cancelled meanwhile; the cancellation is passed on afterwards.

    Bounded: a guard kills its server when the grace period is over.
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
