"""Lends the accounts of the sandboxes' NATS server: one to each sandbox, never one to two.

The table of slots decides. A step that fails, or whose process dies, leaves the slot taken until everything
in it is removed: taking and giving back do all their steps again, from the first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sandbox_core.errors import SlotsUsedUp
from sandbox_core.nats.tenant.servers import TenantServers
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import Pool, connected, transaction
from sandbox_core.subjects import slot_streams

REST = timedelta(seconds=10)
"""How long a slot is not lent again: longer than a login that has begun can still succeed."""


async def _nothing(_step: str) -> None:
    return


class SlotLending:
    """Who has which slot. Every method raises `DependencyUnavailable` when a server is away."""

    def __init__(
        self,
        pool: Pool,
        servers: TenantServers,
        streams: SlotStreams,
        *,
        rest: timedelta = REST,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        faults: Callable[[str], Awaitable[None]] = _nothing,
    ) -> None:
        """`pool` is the bot's own database. `faults` is called between the steps, for tests."""
        self._pool = pool
        self._servers = servers
        self._streams = streams
        self._rest = rest
        self._clock = clock
        self.faults = faults

    async def take(self, sandbox_id: UUID) -> int:
        """Lend the sandbox a free slot, with new streams, unless it has one. Return the slot.

        Raises `SlotsUsedUp` when no slot is free.
        """
        slot = await self._lend(sandbox_id)
        if slot is None:
            # The server may have got more.
            self._servers.forget()
            slot = await self._lend(sandbox_id)
        if slot is None:
            raise SlotsUsedUp(self._servers.where, len(await self._servers.slots()))
        await self.faults("taken")
        await self._servers.cut(slot, lambda each: each.sandbox_id != str(sandbox_id))
        await self._streams.ensure(slot, sandbox_id)
        await self.faults("stream")
        return slot

    async def _lend(self, sandbox_id: UUID) -> int | None:
        slots = await self._servers.slots()
        async with transaction(self._pool) as connection:
            return await nats_slots.take(connection, sandbox_id, slots, at=self._clock(), rest=self._rest)

    async def give_back(self, sandbox_id: UUID) -> None:
        """Remove the streams of the sandbox, and free its slot. Nobody must be able to log in any more."""
        slot = await self.slot_of(sandbox_id)
        if slot is None:
            await self._empty_strays(sandbox_id)
            return
        await self._streams.remove(slot)
        await self.faults("removed")
        async with connected(self._pool) as connection:
            await nats_slots.free(connection, sandbox_id, at=self._clock())
        await self.faults("freed")

    async def slot_of(self, sandbox_id: UUID) -> int | None:
        """Return the number of the sandbox's slot."""
        async with connected(self._pool) as connection:
            row = await nats_slots.of_sandbox(connection, sandbox_id)
        return None if row is None else row.slot

    async def restore(self) -> list[UUID]:
        """Make the streams that are missing, as after a restart of the server. Return whose they are."""
        async with connected(self._pool) as connection:
            rows = await nats_slots.taken(connection)
        present = await self._servers.streams()
        restored = []
        for row in rows:
            whole = dict.fromkeys(slot_streams(row.sandbox_id), str(row.sandbox_id))
            # Without a login its removal, or its creation, is under way.
            if row.generation and present.get(row.slot) != whole:
                await self._streams.ensure(row.slot, row.sandbox_id)
                restored.append(row.sandbox_id)
        return restored

    async def holders(self) -> set[str]:
        """Return the ids of sandboxes with a slot, or with something in a slot that nobody has."""
        async with connected(self._pool) as connection:
            taken = {str(row.sandbox_id) for row in await nats_slots.taken(connection)}
        return taken.union(*(await self._strays()).values())

    async def _empty_strays(self, sandbox_id: UUID) -> None:
        for slot, owners in (await self._strays()).items():
            if str(sandbox_id) in owners:
                await self._servers.cut(slot)
                await self._streams.remove(slot)

    async def _strays(self) -> dict[int, set[str]]:
        """Return the slots that nobody has and that are not empty, with the ids of the sandboxes in each.

        A restored database may know less than the server has.
        """
        async with connected(self._pool) as connection:
            taken = {row.slot for row in await nats_slots.taken(connection)}
        found = {slot: set(owners.values()) for slot, owners in (await self._servers.streams()).items()}
        for each in await self._servers.connections():
            found.setdefault(each.slot, set()).add(each.sandbox_id)
        return {slot: owners for slot, owners in found.items() if owners and slot not in taken}
