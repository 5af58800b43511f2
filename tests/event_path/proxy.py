"""A TCP connection that can fall silent without being closed: what a cut network looks like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Passes bytes to a server, and none at all between `cut` and `mend`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def cut(self) -> None:
        """Nothing goes through any more, and nobody is told."""
        self._open.clear()

    def mend(self) -> None:
        """Everything goes through, what was sent meanwhile first."""
        self._open.set()

    def sever(self) -> None:
        """End every connection, which both ends are told, and let none through until `mend`."""
        self.cut()
        for task in list(self._tasks):
            task.cancel()

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        await self._open.wait()
        inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        for source, target in ((reader, inner_writer), (inner_reader, writer)):
            task = asyncio.create_task(self._pass(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._open.wait()
                target.write(data)
                await target.drain()
        except OSError:
            # The other end is gone; closing this one tells it on.
            return
        finally:
            target.close()

    async def close(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


P = TypeVar("P", bound=Proxy)


@asynccontextmanager
async def proxied(url: str, kind: type[P] = Proxy) -> AsyncIterator[tuple[P, str]]:  # type: ignore[assignment]
    """A proxy to the server of `url`, and the address that leads through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = kind(parts.hostname, parts.port)
    server = await asyncio.start_server(proxy.accepted, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    login = parts.netloc.rpartition("@")[0]
    netloc = f"{login}@127.0.0.1:{proxy.port}" if login else f"127.0.0.1:{proxy.port}"
    try:
        yield proxy, urlunsplit(parts._replace(netloc=netloc))
    finally:
        proxy.mend()
        server.close()
        await proxy.close()
