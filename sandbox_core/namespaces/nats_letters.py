"""The dead letters of sandboxes with an account of their own; see `DeadLetters`."""

from __future__ import annotations

import asyncio
from uuid import UUID

from sandbox_core.errors import InvalidInput
from sandbox_core.nats.dead_letters import DeadLetter, DeadLetters
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.subjects import SLOT_DEAD_LETTERS


class _OfSlot(DeadLetters):
    """Those in one slot's account."""

    def __init__(self, streams: SlotStreams, slot: int) -> None:
        super().__init__(streams.jetstream(slot), SLOT_DEAD_LETTERS)
        self._streams = streams
        self._slot = slot

    async def _republish(self, letter: DeadLetter, headers: dict[str, str]) -> None:
        await self._streams.publish(self._slot, letter.subject, letter.payload, headers)


class SlotDeadLetters:
    """Reads, repeats and removes letters. A server that is away raises `DependencyUnavailable`.

    `shared` has those of sandboxes without an account of their own.
    """

    def __init__(self, pool: Pool, streams: SlotStreams, shared: DeadLetters | None = None) -> None:
        self._pool = pool
        self._streams = streams
        self._shared = shared

    async def list(self, sandbox_id: UUID, *, limit: int) -> list[DeadLetter]:
        """Do as `DeadLetters` documents."""
        found = await self._of(sandbox_id)
        return [] if found is None else await found.list(sandbox_id, limit=limit)

    async def get(self, sandbox_id: UUID, number: str) -> DeadLetter:
        """Do as `DeadLetters` documents."""
        found = await self._of(sandbox_id)
        if found is None:
            raise InvalidInput("dead letter", number, "the sandbox has none with this id", "`12`")
        return await found.get(sandbox_id, number)

    async def replay(self, letter: DeadLetter) -> None:
        """Do as `DeadLetters` documents."""
        if (found := await self._of(UUID(letter.sandbox_id))) is not None:
            await found.replay(letter)

    async def drop(self, letter: DeadLetter) -> None:
        """Do as `DeadLetters` documents."""
        if (found := await self._of(UUID(letter.sandbox_id))) is not None:
            await found.drop(letter)

    async def counts(self) -> dict[str, int]:
        """Do as `DeadLetters` documents."""
        async with connected(self._pool) as connection:
            rows = await nats_slots.taken(connection)
        counted = await asyncio.gather(*(_OfSlot(self._streams, row.slot).counts() for row in rows))
        if self._shared is not None:
            counted.append(await self._shared.counts())
        return {sandbox_id: count for each in counted for sandbox_id, count in each.items()}

    async def _of(self, sandbox_id: UUID) -> DeadLetters | None:
        async with connected(self._pool) as connection:
            row = await nats_slots.of_sandbox(connection, sandbox_id)
        return self._shared if row is None else _OfSlot(self._streams, row.slot)
