"""The dead letters of every sandbox, each in a stream of its own; see `DeadLetters`."""

from __future__ import annotations

from uuid import UUID

from sandbox_core import tasks
from sandbox_core.nats.dead_letters import DeadLetter, DeadLetters
from sandbox_core.nats.sandbox_streams import SandboxStreams
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.subjects import SLOT_DEAD_LETTERS

_AT_ONCE = 8


class _OfSlot(DeadLetters):
    """Those in one slot's account."""

    def __init__(self, streams: SlotStreams, slot: int) -> None:
        super().__init__(streams.jetstream(slot), SLOT_DEAD_LETTERS)
        self._streams = streams
        self._slot = slot

    async def _republish(self, letter: DeadLetter, headers: dict[str, str]) -> None:
        await self._streams.publish(self._slot, letter.subject, letter.payload, headers)


class SandboxDeadLetters:
    """Reads, repeats and removes letters. A server that is away raises `DependencyUnavailable`.

    `slots` has the streams of sandboxes with an account of their own, `here` those of the others.
    """

    def __init__(self, pool: Pool, slots: SlotStreams | None, here: SandboxStreams) -> None:
        self._pool = pool
        self._slots = slots
        self._here = here

    async def list(self, sandbox_id: UUID, *, limit: int) -> list[DeadLetter]:
        """Do as `DeadLetters` documents."""
        return await (await self._of(sandbox_id)).list(sandbox_id, limit=limit)

    async def get(self, sandbox_id: UUID, number: str) -> DeadLetter:
        """Do as `DeadLetters` documents."""
        return await (await self._of(sandbox_id)).get(sandbox_id, number)

    async def replay(self, letter: DeadLetter) -> None:
        """Do as `DeadLetters` documents."""
        await (await self._of(UUID(letter.sandbox_id))).replay(letter)

    async def drop(self, letter: DeadLetter) -> None:
        """Do as `DeadLetters` documents."""
        await (await self._of(UUID(letter.sandbox_id))).drop(letter)

    async def counts(self) -> dict[str, int]:
        """Do as `DeadLetters` documents."""
        every = [self._beside_events(name) for name in await self._here.names()]
        if self._slots is not None:
            async with connected(self._pool) as connection:
                rows = await nats_slots.taken(connection)
            every += [_OfSlot(self._slots, row.slot) for row in rows]
        counted = await tasks.few_at_once(DeadLetters.counts, every, at_once=_AT_ONCE)
        return {sandbox_id: count for each in counted for sandbox_id, count in each.items()}

    async def _of(self, sandbox_id: UUID) -> DeadLetters:
        if self._slots is not None:
            async with connected(self._pool) as connection:
                row = await nats_slots.of_sandbox(connection, sandbox_id)
            if row is not None:
                return _OfSlot(self._slots, row.slot)
        return self._beside_events(self._here.limits.names.sandbox_stream(sandbox_id))

    def _beside_events(self, stream: str) -> DeadLetters:
        return DeadLetters(self._here.js, stream)
