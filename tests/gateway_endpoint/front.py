"""One address before several processes, as a load balancer is: the first that takes a connection gets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

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
        self._copies: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._refuses = False
        self.refused = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse connections in the body; those that are there stay. `refused` counts them."""
        self._refuses, self.refused = True, 0
        try:
            yield
        finally:
            self._refuses = False

    def cut(self) -> None:
        """Lose every connection, as a broken network does."""
        for writer in self._copies.values():
            writer.transport.abort()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take connections, but forward nothing of them before the body's end."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    async def close(self) -> None:
        """End it."""
        assert self._server is not None
        self._server.close()
        self._open.set()
        for task in tuple(self._copies):
            task.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        self.refused += self._refuses
        for port in () if self._refuses else self.ports:
            try:
                away, back = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            for source, target in ((reader, back), (away, writer)):
                task = asyncio.create_task(_copy(source, target))
                self._copies[task] = target
                task.add_done_callback(self._copies.pop)
            return
        writer.transport.abort()


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
    await made.listen()
    try:
        yield made
    finally:
        await made.close()
