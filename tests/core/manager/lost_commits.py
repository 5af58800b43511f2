"""A way to PostgreSQL that is cut, or falls silent, when the server has committed and before it is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandbox_core.postgres import Pool, create_pool
from tests.event_path.proxy import Proxy, proxied

_ASKED = b"COMMIT;\0"
_DONE = b"COMMIT\0"


class LostCommits(Proxy):
    """Loses the answer to one COMMIT, and ends its connection."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self._until = 0
        self._stays_away = False
        self._hangs = False
        self.lost = 0

    def lose(self, number: int = 1, *, stays_away: bool = False) -> None:
        """Lose the answer to the `number`th COMMIT from now on; then let nobody through until `mend`."""
        self._until, self._stays_away = number, stays_away

    def hang(self) -> None:
        """Hold the answer to the next COMMIT back, and let nothing through until `mend`; nothing ends."""
        self._until, self._hangs = 1, True

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        await self._open.wait()
        inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        chosen = asyncio.Event()

        async def ask() -> None:
            while data := await reader.read(65536):
                if self._until and _ASKED in data:
                    self._until -= 1
                    if not self._until:
                        chosen.set()
                if self._hangs:
                    await self._open.wait()
                inner_writer.write(data)

        async def answer() -> None:
            while data := await inner_reader.read(65536):
                if chosen.is_set() and _DONE in data:
                    self.lost += 1
                    if self._hangs:
                        self.cut()
                        await self._open.wait()
                        chosen.clear()
                        writer.write(data)
                        continue
                    if self._stays_away:
                        self.cut()
                    return
                if self._hangs:
                    await self._open.wait()
                writer.write(data)

        async def both() -> None:
            tasks = [asyncio.create_task(ask()), asyncio.create_task(answer())]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for end in (writer, inner_writer):
                    end.close()

        task = asyncio.create_task(both())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def losing_commits(database_url: str) -> AsyncIterator[tuple[LostCommits, Pool]]:
    """The way, and a pool of connections that go it."""
    async with proxied(database_url, kind=LostCommits) as (way, url):
        pool = await create_pool(url, max_size=4)
        try:
            yield way, pool
        finally:
            way.mend()
            await pool.close()
