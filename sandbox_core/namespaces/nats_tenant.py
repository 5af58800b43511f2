"""A sandbox's part of NATS on a server of the sandboxes' own: an account, its stream, and a login.

The table of slots says whose an account is. A step that fails, or whose process dies, leaves the slot taken
until everything of it is removed: `drop` does all steps again, from the first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sandbox_core.errors import SandboxError, SlotsUsedUp
from sandbox_core.models import Sandbox
from sandbox_core.nats.tenant.servers import TenantServers
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.postgres import nats_slots
from sandbox_core.postgres.pool import Pool, connected, transaction
from sandbox_core.subjects import SLOT_DEAD_LETTERS, SLOT_STREAM, is_sandbox_id, sandbox_filter, slot_streams
from sandbox_core.words import counted

from .base import IsOrphan, PartHealth, PartState, drop_orphan
from .credentials import Credentials
from .nats_logins import STORE, SlotLogins

REST = timedelta(seconds=10)
"""How long a slot stays free: longer than a login that has begun can still succeed."""


async def _nothing(_step: str) -> None:
    return


class SlotNamespace:
    """The sandboxes' accounts on their NATS server."""

    store = STORE

    def __init__(
        self,
        pool: Pool,
        servers: TenantServers,
        streams: SlotStreams,
        logins: SlotLogins,
        *,
        rest: timedelta = REST,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        faults: Callable[[str], Awaitable[None]] = _nothing,
    ) -> None:
        """`pool` is the bot's own database. `faults` is called between the steps, for tests."""
        self._pool = pool
        self._servers = servers
        self._streams = streams
        self._logins = logins
        self._rest = rest
        self._clock = clock
        self._faults = faults
        self.credentials: Credentials | None = logins

    async def provision(self, sandbox: Sandbox) -> None:
        """Take a free slot, make its streams, and let the sandbox's worker in.

        Raises `SlotsUsedUp` when no slot is free.
        """
        try:
            await self._provision(sandbox)
        except BaseException:
            # The caller needs its own error. What is left keeps its slot, and is found as an orphan.
            with suppress(SandboxError):
                await asyncio.shield(self.drop(sandbox))
            raise

    async def _provision(self, sandbox: Sandbox) -> None:
        slots = await self._servers.streams()
        async with transaction(self._pool) as connection:
            slot = await nats_slots.take(connection, sandbox.id, slots, at=self._clock(), rest=self._rest)
        if slot is None:
            raise SlotsUsedUp(self._servers.where, len(slots))
        await self._faults("taken")
        # Whoever is still in the account is not of this sandbox: nobody knows its password yet.
        await self._servers.cut(slot)
        await self._streams.ensure(slot, sandbox.id)
        await self._faults("stream")
        if sandbox.generation:
            await self._logins.make(sandbox)
        await self._faults("login")

    async def drop(self, sandbox: Sandbox) -> None:
        """Refuse the login, end the connections, remove the streams, give the slot back: in this order."""
        await self._logins.revoke(sandbox)
        await self._faults("revoked")
        slot = await self.slot_of(sandbox.id)
        if slot is None:
            await self._empty_strays(sandbox.id)
            return
        await self._streams.remove(slot)
        await self._faults("removed")
        async with connected(self._pool) as connection:
            await nats_slots.free(connection, sandbox.id, at=self._clock())
        await self._faults("freed")

    async def _empty_strays(self, sandbox_id: UUID) -> None:
        """Empty what is the sandbox's in slots that nobody has."""
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
        found: dict[int, set[str]] = {}
        for slot, owners in (await self._servers.streams()).items():
            found[slot] = set(owners.values())
        for each in await self._servers.connections():
            found.setdefault(each.slot, set()).add(each.sandbox_id)
        return {slot: owners for slot, owners in found.items() if owners and slot not in taken}

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
            # Without a login its removal, or its creation, is under way.
            whole = dict.fromkeys(slot_streams(row.sandbox_id), str(row.sandbox_id))
            if row.generation and present.get(row.slot) != whole:
                await self._streams.ensure(row.slot, row.sandbox_id)
                restored.append(row.sandbox_id)
        return restored

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check that the sandbox has a slot with its streams.

        `facts` has `slot`, `messages` (but for dead letters), `dead_letters`, `consumers`, `bytes`,
        `max_bytes` and `connections`.
        """
        facts: dict[str, int | float | str] = {"subjects": sandbox_filter(sandbox.id)}
        started = time.perf_counter()
        slot = await self.slot_of(sandbox.id)
        found = {} if slot is None else await self._streams.infos(slot)
        latency = (time.perf_counter() - started) * 1000
        if slot is None:
            detail = "it has no account on the sandboxes' NATS server"
            return PartHealth(self.store, PartState.UNHEALTHY, detail, latency, facts)
        facts["slot"] = slot
        facts["connections"] = len(await self._servers.connections(slot))
        if not found.keys() >= {SLOT_STREAM, SLOT_DEAD_LETTERS}:
            detail = "its streams are missing and will be created again"
            return PartHealth(self.store, PartState.DEGRADED, detail, latency, facts | {"messages": 0})
        events = found[SLOT_STREAM]
        facts |= {
            "messages": (waiting := events.state.messages),
            "dead_letters": (letters := found[SLOT_DEAD_LETTERS].state.messages),
            "consumers": events.state.consumer_count,
            "bytes": events.state.bytes,
            "max_bytes": events.config.max_bytes or 0,
        }
        detail = f"{counted(waiting, 'event', 'events')} waiting" if waiting else "no events waiting"
        detail += f", {counted(letters, 'dead letter', 'dead letters')}" if letters else ""
        return PartHealth(self.store, PartState.HEALTHY, detail, latency, facts)

    async def list_ids(self) -> set[str]:
        """Return the UUIDs of sandboxes with a slot, or with something in a slot that nobody has."""
        async with connected(self._pool) as connection:
            taken = {str(row.sandbox_id) for row in await nats_slots.taken(connection)}
        strays = (each for owners in (await self._strays()).values() for each in owners)
        return taken | {each for each in strays if is_sandbox_id(each)}

    def always_has(self, sandbox: Sandbox) -> str:
        """Return the account, for a sandbox with logins of its own."""
        return "its account on NATS" if sandbox.generation else ""

    def name_of(self, listed_id: str) -> str:
        """Return the filter of the sandbox's subjects."""
        return sandbox_filter(listed_id)

    async def drop_orphan(self, listed_id: str, is_orphan: IsOrphan) -> bool:
        """Do as `Namespace` documents."""
        return await drop_orphan(self, listed_id, is_orphan)
