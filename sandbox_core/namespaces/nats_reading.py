"""Reads the events of all sandboxes back, each from its own account, and the stream that the others share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from sandbox_core.nats.message_ids import Content, MessageIds
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.subjects import SLOT_STREAM, sandbox_events

_AT_ONCE = 8


class SlotReads:
    """Reads as `MessageIds` does, whatever the stream's name; `shared` reads the stream with that name."""

    def __init__(self, pool: Pool, streams: SlotStreams, shared: MessageIds | None = None) -> None:
        self._pool = pool
        self._streams = streams
        self._shared = shared

    async def read(self, stream: str, subject: str, begin: datetime, found: Callable[[str], None]) -> None:
        """See `MessageIds.read`."""
        if self._shared is not None:
            await self._shared.read(stream, subject, begin, found)
        await self._each(lambda reads, events: reads.read(SLOT_STREAM, events, begin, found))

    async def read_whole(
        self, stream: str, subject: str, begin: datetime, found: Callable[[Content], None]
    ) -> None:
        """See `MessageIds.read_whole`."""
        if self._shared is not None:
            await self._shared.read_whole(stream, subject, begin, found)
        await self._each(lambda reads, events: reads.read_whole(SLOT_STREAM, events, begin, found))

    async def _each(self, question: Callable[[MessageIds, str], Awaitable[None]]) -> None:
        async with connected(self._pool) as connection:
            rows = await nats_slots.taken(connection)
        few = asyncio.Semaphore(_AT_ONCE)

        async def ask(row: nats_slots.SlotRow) -> None:
            async with few:
                await question(self._streams.reads(row.slot), sandbox_events(row.sandbox_id))

        asked = [asyncio.ensure_future(ask(row)) for row in rows]
        try:
            await asyncio.gather(*asked)
        finally:
            # After one has failed, or the time is over, nobody waits for the others.
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
