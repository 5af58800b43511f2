"""A sandbox's part of NATS on a server of the sandboxes' own: an account, its streams, and a login."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from uuid import UUID

from sandbox_core.errors import SandboxError
from sandbox_core.models import Sandbox
from sandbox_core.nats.tenant.configuration import TenantLimits
from sandbox_core.nats.tenant.servers import TenantServers
from sandbox_core.nats.tenant.streams import SlotStreams
from sandbox_core.subjects import SLOT_DEAD_LETTERS, SLOT_STREAM, is_sandbox_id, sandbox_filter
from sandbox_core.templates import Template
from sandbox_core.words import counted

from .amounts import Amount, Pace
from .base import IsOrphan, PartHealth, PartState, drop_orphan
from .credentials import WILL_BE_MADE, Credentials
from .nats_lending import SlotLending
from .nats_logins import STORE, SlotLogins


class SlotNamespace:
    """The sandboxes' accounts on their NATS server."""

    store = STORE

    def __init__(
        self,
        servers: TenantServers,
        streams: SlotStreams,
        lending: SlotLending,
        logins: SlotLogins,
        limits: TenantLimits,
    ) -> None:
        self._servers = servers
        self._streams = streams
        self._lending = lending
        self._logins = logins
        self._limits = limits
        self.credentials: Credentials | None = logins

    async def provision(self, sandbox: Sandbox) -> None:
        """Take a free slot, make its streams, and let the sandbox's worker in.

        Raises `SlotsUsedUp` when no slot is free.
        """
        try:
            await self._lending.take(sandbox.id)
            if sandbox.generation:
                await self._logins.make(sandbox)
            await self._lending.faults("login")
        except BaseException:
            # The caller needs its own error. What is left keeps its slot, and is found as an orphan.
            with suppress(SandboxError):
                await asyncio.shield(self.drop(sandbox))
            raise

    async def drop(self, sandbox: Sandbox) -> None:
        """Refuse the login, end the connections, remove the streams, give the slot back: in this order."""
        await self._logins.revoke(sandbox)
        await self._lending.faults("revoked")
        await self._lending.give_back(sandbox.id)

    async def fill(self, _sandbox: Sandbox, _template: Template) -> None:
        """Do nothing: a template is SQL."""

    async def renew(self, sandbox: Sandbox, _template: Template | None) -> None:
        """Remove the messages of both streams; the slot, the login, connections and consumers stay."""
        # With what is missing, as after a restart of the server.
        await self._streams.purge(await self._lending.take(sandbox.id))

    async def slot_of(self, sandbox_id: UUID) -> int | None:
        """Return the number of the sandbox's slot."""
        return await self._lending.slot_of(sandbox_id)

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check that the sandbox has a slot with its streams, and its login.

        `facts` has `slot`, `messages` (but for dead letters), `dead_letters`, `consumers`, `bytes` and
        `connections`, the last four each with its `…_limit`, but for dead letters.
        """
        facts: dict[str, int | float | str] = {"subjects": sandbox_filter(sandbox.id)}
        started = time.perf_counter()
        slot = await self._lending.slot_of(sandbox.id)
        found = {} if slot is None else await self._streams.infos(slot)
        latency = (time.perf_counter() - started) * 1000
        if slot is None:
            detail = "it has no account on the sandboxes' NATS server"
            return PartHealth(self.store, PartState.UNHEALTHY, detail, latency, facts)
        facts["slot"] = slot
        facts["connections"] = len(await self._servers.connections(slot))
        facts["connections_limit"] = self._limits.connections
        if not found.keys() >= {SLOT_STREAM, SLOT_DEAD_LETTERS}:
            detail = "its streams are missing and will be created again"
            return PartHealth(self.store, PartState.DEGRADED, detail, latency, facts | {"messages": 0})
        events = found[SLOT_STREAM]
        facts |= {
            "messages": (stored := events.state.messages),
            "messages_limit": events.config.max_msgs or 0,
            "dead_letters": (letters := found[SLOT_DEAD_LETTERS].state.messages),
            "consumers": events.state.consumer_count,
            "consumers_limit": self._limits.consumers,
            "bytes": events.state.bytes,
            "bytes_limit": events.config.max_bytes or 0,
        }
        if sandbox.generation and await self._logins.lacking([sandbox]):
            detail = f"its login {WILL_BE_MADE}"
            return PartHealth(self.store, PartState.DEGRADED, detail, latency, facts)
        detail = f"{counted(stored, 'event', 'events')} stored" if stored else "no events stored"
        detail += f", {counted(letters, 'dead letter', 'dead letters')}" if letters else ""
        return PartHealth(self.store, PartState.HEALTHY, detail, latency, facts)

    async def measure(self, _sandboxes: Sequence[Sandbox], _pace: Pace) -> Mapping[UUID, Amount]:
        """Return nothing: the server limits the streams."""
        return {}

    async def list_ids(self) -> set[str]:
        """Return the UUIDs of sandboxes with a slot, or with something in a slot that nobody has."""
        return {each for each in await self._lending.holders() if is_sandbox_id(each)}

    async def list_whole(self) -> set[str]:
        """Return the same: streams that are missing are made again."""
        return await self.list_ids()

    def always_has(self, sandbox: Sandbox) -> str:
        """Return the account, for a sandbox with logins of its own."""
        return "its account on NATS" if sandbox.generation else ""

    def name_of(self, listed_id: str) -> str:
        """Return the filter of the sandbox's subjects."""
        return sandbox_filter(listed_id)

    async def drop_orphan(self, listed_id: str, is_orphan: IsOrphan) -> bool:
        """Do as `Namespace` documents."""
        return await drop_orphan(self, listed_id, is_orphan)
