"""`CleanupProvider` removes expired sandboxes and orphans, and resumes interrupted removals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import structlog

from sandbox_core.errors import (
    CleanupFailed,
    DependencyUnavailable,
    SandboxError,
    SandboxNotFound,
    TransitionNotAllowed,
)
from sandbox_core.manager import (
    FaultPoint,
    ManagerObserver,
    NoObserver,
    RouteChanges,
    failures,
    no_fault,
    teardown,
    utc_now,
)
from sandbox_core.manager import credentials as credential_steps
from sandbox_core.manager import resets as reset_steps
from sandbox_core.manager.ports import TeardownTools
from sandbox_core.models import Actor, Sandbox, SandboxStatus
from sandbox_core.namespaces import Namespace, RedisNamespace
from sandbox_core.operation_log import INTERNAL, about
from sandbox_core.postgres import Pool, connected, sandboxes
from sandbox_core.postgres import cleanup as rows
from sandbox_core.postgres import resets as reset_rows
from sandbox_core.postgres.claims import Claims
from sandbox_core.postgres.cleanup import Failure
from sandbox_core.templates import Templates

from .observer import CleanupObserver
from .orphans import NATS, LeftRecordings, OrphanSearch
from .passes import SLOW_AFTER, Pass, Places, Removal
from .results import MAPPINGS, RECORDINGS, CleanupReport, Orphan, OrphanCleanup, OrphanReport

_log = structlog.get_logger("sandbox.cleanup")

CLEANUP = Actor("cleanup", "automatic cleanup")
"""The actor of automatic work in the audit log."""

AT_ONCE = 4
"""The most sandboxes that one process removes at the same time, without slow removals."""
AT_MOST = 10
"""The most removals with the slow ones. Each needs a connection; the pool has a few more for other work."""
PATIENCE = 60.0
"""The limit in seconds for one store to remove its part of a sandbox while no caller waits."""
_BATCH = 200


class CleanupProvider:
    """Removes expired and half-removed sandboxes and orphans; several processes may run it at once.

    Every method raises `DependencyUnavailable` when PostgreSQL is away. When another store is away, the
    removal of its sandboxes fails and is tried again later.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        namespaces: Sequence[Namespace],
        keys: Sequence[RedisNamespace],
        routes: RouteChanges,
        clock: Callable[[], datetime] = utc_now,
        observer: CleanupObserver | None = None,
        destruction_observer: ManagerObserver | None = None,
        slow_after: float = SLOW_AFTER,
        faults: FaultPoint = no_fault,
        templates: Templates | None = None,
        recordings: LeftRecordings | None = None,
    ) -> None:
        """`namespaces` are in the order of provisioning; `keys` are those of Redis.

        `slow_after` is in seconds, see `Places`.
        """
        self._tools = TeardownTools(
            pool=pool,
            namespaces=tuple(namespaces),
            routes=routes,
            clock=clock,
            observer=destruction_observer or NoObserver(),
            claims=Claims(pool),
            faults=faults,
            templates=templates or Templates(None),
        )
        self._keys = keys
        self._observer = observer or CleanupObserver()
        self._places = Places(AT_ONCE, AT_MOST, slow_after=slow_after)
        self._search = OrphanSearch(
            pool=pool,
            namespaces=namespaces,
            routes=routes,
            clock=clock,
            recordings=recordings,
        )
        self._has_recordings = recordings is not None

    async def cleanup_expired(self) -> CleanupReport:
        """Remove every due sandbox: expired, half removed, or abandoned during its creation.

        A failure does not stop the others; it is tried again after a growing pause. Sandboxes that become due
        meanwhile are removed in the same pass if there is a place.
        """
        started = time.perf_counter()
        current = Pass(due=self._due, clean=self._in_place, clock=self._tools.clock, places=self._places)
        await current.run()
        removals, away = current.removals.values(), current.away
        report = CleanupReport(
            destroyed=tuple(each for each in removals if isinstance(each, Sandbox)),
            failed=tuple(each for each in removals if isinstance(each, Failure)),
            left_to_others=sum(each is None for each in removals),
        )
        if away is not None or report.destroyed or report.failed:
            result = report.result if away is None else "unavailable"
            self._observer.passed(result, time.perf_counter() - started, len(report.destroyed))
        if away is not None:
            raise away
        return report

    async def _due(self) -> list[Sandbox]:
        now = self._tools.clock()
        async with connected(self._tools.pool) as connection:
            return await rows.due(
                connection, now, abandoned_before=now - teardown.ABANDONED_AFTER, limit=_BATCH
            )

    async def _in_place(self, sandbox: Sandbox) -> Removal:
        async with self._places.place():
            try:
                return await self._clean(sandbox, CLEANUP)
            except DependencyUnavailable as error:
                # PostgreSQL is away, so the pass ends. Running removals are not interrupted.
                self._observer.failed(error.code)
                return error

    async def _clean(self, sandbox: Sandbox, actor: Actor) -> Sandbox | Failure | None:
        """Return the sandbox, its failure, or None when another process removes it or it is not due."""
        with about("cleanup", sandbox):
            return await self._claim_and_clean(sandbox, actor)

    async def _claim_and_clean(self, sandbox: Sandbox, actor: Actor) -> Sandbox | Failure | None:
        async with self._tools.claims.hold(sandbox.id) as mine:
            if not mine:
                return None
            try:
                return await self._take_apart(sandbox, actor)
            except failures.StepFailed as failed:
                return await self._failure(sandbox, failed)
            except DependencyUnavailable:
                raise
            except Exception as error:
                # An unexpected error of one sandbox must not stop the others.
                _log.exception("cleanup_fault")
                fault = failures.StepFailed(teardown.STATUS_STEP, error)
                await failures.note_failure(self._tools, actor, sandbox, fault)
                return await self._failure(sandbox, fault)

    async def _take_apart(self, sandbox: Sandbox, actor: Actor) -> Sandbox | None:
        now = self._tools.clock()
        async with connected(self._tools.pool) as connection:
            due = await rows.is_due(connection, sandbox.id, now, now - teardown.ABANDONED_AFTER)
        # It was extended meanwhile, or another process has removed it.
        if not due:
            return None
        details = {"reason": _why(sandbox)}
        if sandbox.status is SandboxStatus.RUNNING and not await teardown.expire(
            self._tools, actor, sandbox.id
        ):
            return None
        destroying = await teardown.begin(self._tools, actor, sandbox.id, details)
        if destroying is None:
            return None
        done = await teardown.take_apart(self._tools, actor, destroying, details, patience=PATIENCE)
        return done.sandbox

    async def _failure(self, sandbox: Sandbox, failed: failures.StepFailed) -> Failure:
        code = failed.error.code if isinstance(failed.error, SandboxError) else INTERNAL
        self._observer.failed(code)
        async with connected(self._tools.pool) as connection:
            attempts = await rows.attempts(connection, sandbox.id)
        _log.warning(
            "cleanup_failed",
            error_code=code,
            step=failed.step,
            reason=failed.reason,
            attempts=attempts,
        )
        return Failure(
            step=failed.step,
            reason=failed.reason,
            attempts=attempts,
            next_attempt_at=self._tools.clock() + failures.pause_after(attempts),
            sandbox=sandbox,
        )

    async def cleanup_sandbox(self, sandbox_id: UUID, *, actor: Actor = CLEANUP) -> Sandbox | None:
        """Remove this sandbox if it is due, also during the pause after a failure.

        Return the destroyed sandbox, also when it was destroyed before, or None when another process removes
        it. Raises `SandboxNotFound`, `TransitionNotAllowed` when it is not due, and `CleanupFailed` with the
        step.
        """
        now = self._tools.clock()
        async with connected(self._tools.pool) as connection:
            sandbox = await sandboxes.by_id(connection, sandbox_id)
            due = await rows.is_due(connection, sandbox_id, now, now - teardown.ABANDONED_AFTER)
        if sandbox is None:
            raise SandboxNotFound(str(sandbox_id))
        if sandbox.status is SandboxStatus.DESTROYED:
            return sandbox
        if not due:
            raise TransitionNotAllowed(sandbox.status, SandboxStatus.DESTROYED)
        removal = await self._clean(sandbox, actor)
        if isinstance(removal, Failure):
            raise CleanupFailed(sandbox.name, removal.step, removal.reason)
        return removal

    async def cleanup_redis_keys(self, sandbox_id: UUID) -> int:
        """Remove the Redis keys of one sandbox in any status. Return their number.

        Raises `StillWritten` while a worker writes new keys.
        """
        return sum([await each.delete_keys(sandbox_id) for each in self._keys])

    async def failures(self, *, at_least: int = 1) -> list[Failure]:
        """Return the removals that failed at least `at_least` times in a row."""
        async with connected(self._tools.pool) as connection:
            return await rows.failures(connection, at_least=at_least)

    async def next_due(self) -> datetime | None:
        """Return the next known time at which a sandbox becomes due."""
        async with connected(self._tools.pool) as connection:
            return await rows.next_due(connection)

    async def find_orphaned_resources(self) -> OrphanReport:
        """Find resources that belong to no live sandbox, and running sandboxes that lack something."""
        report = await self._search.find()
        self._count(report, report.orphans)
        return report

    async def cleanup_orphaned_resources(
        self, *, unknown: bool = False, actor: Actor = CLEANUP
    ) -> OrphanCleanup:
        """Find and remove orphans of sandboxes that this database has as destroyed.

        With `unknown` also those without a row here, which may belong to another installation on the same
        servers. The audit log names `actor`.
        """
        done = await self._search.remove(await self._search.find(), actor, unknown=unknown)
        self._count(done.found, (*done.spared, *done.failed))
        if done.removed or done.failed:
            _log.info("orphans_removed", removed=len(done.removed), failed=len(done.failed))
        return done

    def _count(self, report: OrphanReport, left: Sequence[Orphan]) -> None:
        stores = {namespace.store for namespace in self._tools.namespaces} | {MAPPINGS}
        if self._has_recordings and NATS not in report.unreadable:
            stores.add(RECORDINGS)
        readable = stores - report.unreadable.keys()
        self._observer.orphans({store: sum(each.store == store for each in left) for store in readable})

    async def run(self) -> tuple[CleanupReport, OrphanCleanup]:
        """Run the periodic pass: remove all due sandboxes, then orphans of destroyed ones."""
        return await self.cleanup_expired(), await self.cleanup_orphaned_resources()

    async def finish_resets(self) -> list[Sandbox]:
        """Finish the resets that were interrupted. Return the sandboxes.

        One that fails again is left for the next time, and does not stop the others.
        """
        async with connected(self._tools.pool) as connection:
            unfinished = await reset_rows.unfinished(connection)
        done = [await self._finish_reset(sandbox) for sandbox in unfinished]
        return [sandbox for sandbox in done if sandbox is not None]

    async def _finish_reset(self, sandbox: Sandbox) -> Sandbox | None:
        with about("reset", sandbox):
            try:
                async with self._tools.claims.hold(sandbox.id) as mine:
                    return await reset_steps.go_on(self._tools, CLEANUP, sandbox) if mine else None
            except SandboxError as error:
                _log.info("reset_not_finished", error_code=error.code, reason=failures.reason_of(error))
                return None

    async def keep_credentials(self) -> list[tuple[str, UUID]]:
        """Refuse the credentials of ended sandboxes, and make those that running ones lack.

        Return what was made, by store and sandbox. Ended sandboxes do not wait for their removal: the process
        that began it may be dead, and the next attempt may be minutes away.
        """
        now = self._tools.clock()
        async with connected(self._tools.pool) as connection:
            found = await sandboxes.with_credentials(connection)
        ended = [sandbox for sandbox in found if not sandbox.routes_at(now)]
        await asyncio.gather(*(credential_steps.revoke(self._tools, sandbox) for sandbox in ended))
        return await credential_steps.mend(self._tools, [each for each in found if each.routes_at(now)])

    async def refresh_gauges(self) -> None:
        """Update the gauges of sandboxes."""
        async with connected(self._tools.pool) as connection:
            by_owner = await rows.population(connection)
        self._observer.population(by_owner)

    async def record_activity(self, moments: Mapping[UUID, datetime]) -> None:
        """Update `last_activity_at` of these sandboxes, in one statement."""
        if moments:
            async with connected(self._tools.pool) as connection:
                await rows.touch_many(connection, moments)

    async def record_dropped(self, dropped: Mapping[UUID, tuple[int, float]]) -> None:
        """Add to the numbers of these sandboxes' dropped events, in one statement."""
        if dropped:
            async with connected(self._tools.pool) as connection:
                await rows.add_dropped(connection, dropped)


def _why(sandbox: Sandbox) -> str:
    match sandbox.status:
        case SandboxStatus.RUNNING | SandboxStatus.EXPIRED:
            return "expired"
        case SandboxStatus.PENDING | SandboxStatus.CREATING:
            return "creation abandoned"
        case _:
            return "destruction continued"
