"""Finds resources that belong to no live sandbox, and removes them in a second step.

Only exact names of this project count: `sandbox_prod_backup` and `sandbox:cache:x` belong to others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog

from sandbox_core.errors import SandboxError
from sandbox_core.manager.failures import reason_of
from sandbox_core.manager.ports import RouteChanges
from sandbox_core.manager.teardown import bounded
from sandbox_core.models import Actor, AuditEvent, Sandbox, SandboxStatus
from sandbox_core.namespaces import Namespace
from sandbox_core.postgres import Pool, audit, connected, guild_mappings, sandboxes, transaction
from sandbox_core.postgres import orphans as orphan_rows
from sandbox_core.postgres import routes as route_rows
from sandbox_core.tasks import after_commit

from .results import MAPPINGS, RECORDINGS, Damage, Orphan, OrphanCleanup, OrphanReport

_log = structlog.get_logger("sandbox.cleanup")

_LIST_TIMEOUT = 120.0
"""The limit in seconds to list one store; Redis scans every key."""
_DROP_TIMEOUT = 120.0
NATS = "NATS"
"""Where recordings are."""


class LeftRecordings(Protocol):
    """Recordings whose events are there, and which no row knows."""

    async def unknown(self) -> set[UUID]: ...

    async def remove_unknown(self, recording_id: UUID) -> bool: ...


class OrphanSearch:
    """Compares the stores with the table of sandboxes."""

    def __init__(
        self,
        *,
        pool: Pool,
        namespaces: Sequence[Namespace],
        routes: RouteChanges,
        clock: Callable[[], datetime],
        recordings: LeftRecordings | None = None,
    ) -> None:
        self._pool = pool
        self._namespaces = {namespace.store: namespace for namespace in namespaces}
        self._routes = routes
        self._clock = clock
        self._recordings = recordings

    async def find(self) -> OrphanReport:
        """Search every store. Raises `DependencyUnavailable` when PostgreSQL is away."""
        # Read sandboxes before schemas: a new sandbox must not look damaged.
        async with connected(self._pool) as connection:
            running = await sandboxes.select(connection, status=SandboxStatus.RUNNING)
            lost = await orphan_rows.lost_mappings(connection)
            mapped = await orphan_rows.mappings(connection)
        listed, unreadable = await self._list(lambda namespace: namespace.list_ids())
        # Read the stores before the ids: a new resource then has its sandbox's row.
        ids = {each for found in listed.values() for each in found}
        async with connected(self._pool) as connection:
            known = await orphan_rows.known_ids(connection, ids)
        orphans = [
            Orphan(store, each, self._namespaces[store].name_of(each), each in known.destroyed)
            for store, found in listed.items()
            for each in sorted(found - known.live)
        ]
        orphans += [
            Orphan(MAPPINGS, guild_id, f"server {guild_id} to {sandbox.name}", known=True)
            for guild_id, sandbox in mapped
        ]
        if self._recordings is not None:
            try:
                left = await self._recordings.unknown()
                orphans += [Orphan(RECORDINGS, str(each), f"recording {each}", known=False) for each in left]
            except SandboxError as error:
                unreadable.setdefault(NATS, reason_of(error))
        whole, gone = await self._list(lambda namespace: namespace.list_whole(), among=listed)
        degraded = [
            damage
            for store, found in whole.items()
            for damage in await self._damaged(running, self._namespaces[store], found)
        ]
        degraded += [Damage(sandbox, f"the mapping of server {guild_id}") for guild_id, sandbox in lost]
        return OrphanReport(tuple(orphans), tuple(degraded), unreadable | gone)

    async def _list(
        self, ids: Callable[[Namespace], Awaitable[set[str]]], *, among: Collection[str] | None = None
    ) -> tuple[dict[str, set[str]], dict[str, str]]:
        stores = [each for each in self._namespaces.values() if among is None or each.store in among]
        results = await asyncio.gather(*(_listed(ids(each)) for each in stores), return_exceptions=True)
        listed: dict[str, set[str]] = {}
        unreadable: dict[str, str] = {}
        for namespace, result in zip(stores, results, strict=True):
            if isinstance(result, (SandboxError, TimeoutError)):
                unreadable[namespace.store] = reason_of(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                listed[namespace.store] = result
        return listed, unreadable

    async def _damaged(
        self, running: Iterable[Sandbox], namespace: Namespace, listed: set[str]
    ) -> list[Damage]:
        damaged = []
        for sandbox in running:
            lacking = namespace.always_has(sandbox)
            if not lacking or not listed.isdisjoint({sandbox.short_id, str(sandbox.id)}):
                continue
            async with connected(self._pool) as connection:
                now = await sandboxes.by_id(connection, sandbox.id)
            # It may have been destroyed meanwhile.
            if now is not None and now.status is SandboxStatus.RUNNING:
                damaged.append(Damage(now, lacking))
        return damaged

    async def remove(self, found: OrphanReport, actor: Actor, *, unknown: bool) -> OrphanCleanup:
        """Remove the found orphans; before each, check again that no live sandbox has it now.

        Without `unknown` it removes only orphans of this database's destroyed sandboxes. Their audit log
        records what `actor` removed.
        """
        removed: list[Orphan] = []
        spared: list[Orphan] = []
        failed: dict[Orphan, str] = {}
        for orphan in found.orphans:
            if not (orphan.known or unknown):
                spared.append(orphan)
                continue
            try:
                gone = await self._remove(orphan, actor)
            except SandboxError as error:
                failed[orphan] = reason_of(error)
                continue
            except Exception as error:
                # After any error the other orphans are still removed.
                _log.exception("orphan_not_removed", orphan=orphan.name)
                failed[orphan] = reason_of(error)
                continue
            (removed if gone else spared).append(orphan)
            if gone and orphan.known and orphan.store != MAPPINGS:
                await self._note(orphan, actor)
        return OrphanCleanup(tuple(removed), tuple(spared), failed, found)

    async def _remove(self, orphan: Orphan, actor: Actor) -> bool:
        if orphan.store == MAPPINGS:
            return await self._unmap(orphan.id, actor)
        if orphan.store == RECORDINGS:
            return self._recordings is not None and await self._recordings.remove_unknown(UUID(orphan.id))

        async def is_orphan() -> bool:
            async with connected(self._pool) as connection:
                return orphan.id not in (await orphan_rows.known_ids(connection, [orphan.id])).live

        removal = self._namespaces[orphan.store].drop_orphan(orphan.id, is_orphan)
        return await bounded(orphan.store, removal, within=_DROP_TIMEOUT)

    async def _note(self, orphan: Orphan, actor: Actor) -> None:
        try:
            async with transaction(self._pool) as connection:
                sandbox_id = await orphan_rows.left_by(connection, orphan.id)
                if sandbox_id is None:
                    return
                await audit.record(
                    connection,
                    sandbox_id,
                    AuditEvent.STATUS_CHANGED,
                    actor=actor,
                    at=self._clock(),
                    details={
                        "from": SandboxStatus.DESTROYED.value,
                        "to": SandboxStatus.DESTROYED.value,
                        "removed_orphan": orphan.name,
                        "store": orphan.store,
                    },
                )
        except Exception as error:
            # The orphan itself is removed and will not be found again.
            _log.warning("orphan_not_recorded", orphan=orphan.name, reason=reason_of(error))

    async def _unmap(self, guild_id: str, actor: Actor) -> bool:
        async with transaction(self._pool) as connection:
            holder = await guild_mappings.holder_of(connection, guild_id)
            if holder is None or holder.status is not SandboxStatus.DESTROYED:
                return False
            if not await guild_mappings.remove(connection, guild_id, holder.id):
                return False
            await audit.record(
                connection,
                holder.id,
                AuditEvent.GUILD_UNREGISTERED,
                actor=actor,
                at=self._clock(),
                details={"guild_id": guild_id, "reason": "orphaned"},
            )
        with after_commit("routes"):
            async with connected(self._pool) as connection:
                routes = await route_rows.read_many(connection, [guild_id])
            await self._routes.guilds_changed(routes)
        return True


async def _listed(ids: Awaitable[set[str]]) -> set[str]:
    async with asyncio.timeout(_LIST_TIMEOUT):
        return await ids
