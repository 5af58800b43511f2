"""Reads the events of all sandboxes with an account back, each from its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from sandbox_core import tasks
from sandbox_core.nats.message_ids import Content, MessageIds
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.subjects import SLOT_STREAM, sandbox_events

_AT_ONCE = 8


class SlotReads:
    """Reads as `MessageIds` does."""

    def __init__(self, pool: Pool, streams: SlotStreams) -> None:
        self._pool = pool
        self._streams = streams

    async def read(self, begin: datetime, found: Callable[[str], None]) -> None:
        """See `MessageIds.read`."""
        await self._each(lambda reads, events: reads.read(SLOT_STREAM, events, begin, found))

    async def read_whole(self, begin: datetime, found: Callable[[Content], None]) -> None:
        """See `MessageIds.read_whole`."""
        await self._each(lambda reads, events: reads.read_whole(SLOT_STREAM, events, begin, found))

    async def _each(self, question: Callable[[MessageIds, str], Awaitable[None]]) -> None:
        async with connected(self._pool) as connection:
            rows = await nats_slots.taken(connection)

        async def ask(row: nats_slots.SlotRow) -> None:
            await question(self._streams.reads(row.slot), sandbox_events(row.sandbox_id))

        await tasks.few_at_once(ask, rows, at_once=_AT_ONCE)
