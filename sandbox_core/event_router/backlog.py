"""How much was taken and is not acknowledged: whether there is room for more, and when nothing is left."""

from __future__ import annotations

import asyncio

# Bytes of frames held at most, next to the number of frames: a GUILD_CREATE can be megabytes.
_MOST_BYTES = 128 * 1024 * 1024


class Backlog:
    """Counts events; `most` of them is when a source that can wait should."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0
        """Events taken and not yet acknowledged."""
        self._bytes = 0
        self.full = False
        """True when the caller should wait for `room` before it reads on."""
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._joining: set[int] = set()
        """Shards of which events were kept that are about to be published."""

    def add(self, size: int) -> None:
        """An event of so many bytes was taken."""
        if not self.count:
            self._idle.clear()
        self.count += 1
        self._bytes += size
        if self.count >= self._most or self._bytes >= _MOST_BYTES:
            self.full = True
            self._room.clear()

    def take_off(self, size: int) -> None:
        """It is acknowledged, or not this process's any more."""
        self.count -= 1
        self._bytes -= size
        if self.count == 0 and not self._joining:
            self._idle.set()
        # Half empty before it reads on: waking the reader for every single event costs more.
        if self.full and self.count <= self._most // 2 and self._bytes <= _MOST_BYTES // 2:
            self.full = False
            self._room.set()

    async def room(self) -> None:
        """Return when there is room for more."""
        await self._room.wait()

    async def idle(self) -> None:
        """Return when nothing is left."""
        await self._idle.wait()

    def joining(self, shard_id: int) -> None:
        """Events that were kept of the shard are about to come: nothing is idle before."""
        self._joining.add(shard_id)
        self._idle.clear()

    def joined(self, shard_id: int) -> None:
        """They came, or will not come."""
        self._joining.discard(shard_id)
        if not self.count and not self._joining:
            self._idle.set()
