"""One address before several processes, as a load balancer is: the first that takes a connection gets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pydantic import SecretStr

from sandbox_core.settings import Settings
from tests.e2e.harness import free_port

_SETTINGS = (
    *("database_url", "redis_url", "nats_url", "discord_token", "discord_api_url", "sandbox_isolation"),
    *("sandbox_database_url", "sandbox_redis_url", "sandbox_nats_url", "sandbox_credentials_key"),
)


def environment_of(settings: Settings, **others: object) -> dict[str, str]:
    """The variables of a process with these settings."""
    values = {name: getattr(settings, name) for name in _SETTINGS} | others
    return {
        name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
    }


class Front:
    """Forwards to the first of `ports` that answers."""

    def __init__(self) -> None:
        self.ports = [free_port(), free_port()]
        self.port = free_port()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in self.ports:
            try:
                away, back = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            for source, target in ((reader, back), (away, writer)):
                task = asyncio.create_task(_copy(source, target))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return
        writer.transport.abort()

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


@asynccontextmanager
async def front() -> AsyncIterator[Front]:
    """A front that listens."""
    made = Front()
    server = await asyncio.start_server(made.accept, "127.0.0.1", made.port)
    try:
        yield made
    finally:
        server.close()
        await made.close()
