"""`CleanupProvider`: what is over goes, whatever stopped it from going before."""

from __future__ import annotations

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
    no_fault,
    teardown,
    utc_now,
)
from sandbox_core.manager.ports import TeardownParts
from sandbox_core.models import Actor, Sandbox, SandboxStatus
from sandbox_core.namespaces import Namespace, RedisNamespace
from sandbox_core.operation_log import INTERNAL, about
from sandbox_core.postgres import Pool, connected, sandboxes
from sandbox_core.postgres import cleanup as rows
from sandbox_core.postgres.claims import Claims
from sandbox_core.postgres.cleanup import Failure

from .observer import CleanupObserver, NoCleanupObserver
from .orphans import OrphanSearch
from .results import MAPPINGS, CleanupReport, Orphan, OrphanCleanup, OrphanReport
from .rounds import SLOW_AFTER, Outcome, Places, Round

_log = structlog.get_logger("sandbox.cleanup")

CLEANUP = Actor("cleanup", "automatic cleanup")
"""Who the audit log names for automatic work."""

AT_ONCE = 4
"""Sandboxes that one process removes at the same time, those not counted that take long."""
AT_MOST = 10
"""All of them together; each needs a connection of the pool, which has a few more for everybody else."""
PATIENCE = 60.0
"""Seconds that one store may take to remove its part of one sandbox while nobody waits for it."""
_BATCH = 200


class CleanupProvider:
    """Removes expired and half-removed sandboxes and orphans; safe in several processes at once.

    Every method raises `DependencyUnavailable` when PostgreSQL is away; other stores being away is a
    failure of the sandboxes concerned, which are tried again later.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        namespaces: Sequence[Namespace],
        keys: RedisNamespace,
        routes: RouteChanges,
        clock: Callable[[], datetime] = utc_now,
        observer: CleanupObserver | None = None,
        destruction_observer: ManagerObserver | None = None,
        slow_after: float = SLOW_AFTER,
        faults: FaultPoint = no_fault,
    ) -> None:
        """`namespaces` in the order they are provisioned; `keys` is one of the same stores.

        `slow_after` is in seconds, see `Places`.
        """
        self._parts = TeardownParts(
            pool=pool,
            namespaces=tuple(namespaces),
            routes=routes,
            clock=clock,
            observer=destruction_observer or NoObserver(),
            claims=Claims(pool),
            faults=faults,
        )
        self._keys = keys
        self._observer = observer or NoCleanupObserver()
        self._places = Places(AT_ONCE, AT_MOST, slow_after=slow_after)
        self._search = OrphanSearch(
            pool=pool,
            namespaces=namespaces,
            routes=routes,
            clock=clock,
        )

    async def cleanup_expired(self) -> CleanupReport:
        """Remove every sandbox that is due: expired, stopped half-way, or abandoned while it was created.

        A failure of one does not keep the others, and is tried again after a pause that grows. What comes
        due meanwhile is begun at once while there is a place for it.
        """
        started = time.perf_counter()
        turn = Round(due=self._due, clean=self._in_place, clock=self._parts.clock, places=self._places)
        await turn.run()
        outcomes, away = turn.outcomes.values(), turn.away
        report = CleanupReport(
            destroyed=tuple(each for each in outcomes if isinstance(each, Sandbox)),
            failed=tuple(each for each in outcomes if isinstance(each, Failure)),
            left_to_others=sum(each is None for each in outcomes),
        )
        if away is not None or report.destroyed or report.failed:
            result = report.result if away is None else "unavailable"
            self._observer.passed(result, time.perf_counter() - started, len(report.destroyed))
        if away is not None:
            raise away
        return report

    async def _due(self) -> list[Sandbox]:
        now = self._parts.clock()
        async with connected(self._parts.pool) as connection:
            return await rows.due(
                connection, now, abandoned_before=now - teardown.ABANDONED_AFTER, limit=_BATCH
            )

    async def _in_place(self, sandbox: Sandbox) -> Outcome:
        async with self._places.place():
            try:
                return await self._clean(sandbox, CLEANUP)
            except DependencyUnavailable as error:
                # PostgreSQL is away, for all of them. The others end by themselves and are not cut off.
                self._observer.failed(error.code)
                return error

    async def _clean(self, sandbox: Sandbox, actor: Actor) -> Sandbox | Failure | None:
        """The destroyed sandbox or its failure; None when somebody else does it or it is not due now."""
        with about("cleanup", sandbox):
            return await self._claim_and_clean(sandbox, actor)

    async def _claim_and_clean(self, sandbox: Sandbox, actor: Actor) -> Sandbox | Failure | None:
        async with self._parts.claims.hold(sandbox.id) as mine:
            if not mine:
                return None
            try:
                return await self._take_apart(sandbox, actor)
            except teardown.StepFailed as failed:
                return await self._failure(sandbox, failed)
            except DependencyUnavailable:
                raise
            except Exception as error:
                # One sandbox's fault, foreseen by nobody, must not keep the others.
                _log.exception("cleanup_fault")
                fault = teardown.StepFailed(teardown.STATUS_STEP, error)
                await teardown.note_failure(self._parts, actor, sandbox, fault)
                return await self._failure(sandbox, fault)

    async def _take_apart(self, sandbox: Sandbox, actor: Actor) -> Sandbox | None:
        now = self._parts.clock()
        async with connected(self._parts.pool) as connection:
            due = await rows.is_due(connection, sandbox.id, now, now - teardown.ABANDONED_AFTER)
        # Extended, or finished by another process, since it was found.
        if not due:
            return None
        details = {"reason": _why(sandbox)}
        if sandbox.status is SandboxStatus.RUNNING and not await teardown.expire(
            self._parts, actor, sandbox.id
        ):
            return None
        destroying = await teardown.begin(self._parts, actor, sandbox.id, details)
        if destroying is None:
            return None
        done = await teardown.take_apart(self._parts, actor, destroying, details, patience=PATIENCE)
        return done.sandbox

    async def _failure(self, sandbox: Sandbox, failed: teardown.StepFailed) -> Failure:
        code = failed.error.code if isinstance(failed.error, SandboxError) else INTERNAL
        self._observer.failed(code)
        async with connected(self._parts.pool) as connection:
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
            next_attempt_at=self._parts.clock() + teardown.pause_after(attempts),
            sandbox=sandbox,
        )

    async def cleanup_sandbox(self, sandbox_id: UUID, *, actor: Actor = CLEANUP) -> Sandbox | None:
        """Remove this one if it is due, without regard to the pause after a failure.

        Returns the destroyed sandbox, also when it was destroyed before, and None when somebody else is
        removing it. Raises `SandboxNotFound`, `TransitionNotAllowed` for one that is not due, and
        `CleanupFailed` with the step.
        """
        now = self._parts.clock()
        async with connected(self._parts.pool) as connection:
            sandbox = await sandboxes.by_id(connection, sandbox_id)
            due = await rows.is_due(connection, sandbox_id, now, now - teardown.ABANDONED_AFTER)
        if sandbox is None:
            raise SandboxNotFound(str(sandbox_id))
        if sandbox.status is SandboxStatus.DESTROYED:
            return sandbox
        if not due:
            raise TransitionNotAllowed(sandbox.status, SandboxStatus.DESTROYED)
        outcome = await self._clean(sandbox, actor)
        if isinstance(outcome, Failure):
            raise CleanupFailed(sandbox.name, outcome.step, outcome.reason)
        return outcome

    async def cleanup_redis_keys(self, sandbox_id: UUID) -> int:
        """Remove the Redis keys of one sandbox, whatever its status; returns how many there were.

        Raises `StillWritten` while a worker keeps writing some.
        """
        return await self._keys.delete_keys(sandbox_id)

    async def failures(self, *, at_least: int = 1) -> list[Failure]:
        """Sandboxes whose removal failed `at_least` so many times in a row."""
        async with connected(self._parts.pool) as connection:
            return await rows.failures(connection, at_least=at_least)

    async def next_due(self) -> datetime | None:
        """The next moment, as far as is known, at which there is something to remove."""
        async with connected(self._parts.pool) as connection:
            return await rows.next_due(connection)

    async def find_orphaned_resources(self) -> OrphanReport:
        """Look for what belongs to no live sandbox, and for running sandboxes that lack something."""
        report = await self._search.find()
        self._count(report, report.orphans)
        return report

    async def cleanup_orphaned_resources(
        self, *, unknown: bool = False, actor: Actor = CLEANUP
    ) -> OrphanCleanup:
        """Find and remove what sandboxes left that this database knows as destroyed.

        With `unknown` also what has no row here, which may be another installation's on the same servers.
        The audit log names `actor`.
        """
        done = await self._search.remove(await self._search.find(), actor, unknown=unknown)
        self._count(done.found, (*done.spared, *done.failed))
        if done.removed or done.failed:
            _log.info("orphans_removed", removed=len(done.removed), failed=len(done.failed))
        return done

    def _count(self, report: OrphanReport, left: Sequence[Orphan]) -> None:
        stores = {namespace.store for namespace in self._parts.namespaces} | {MAPPINGS}
        readable = stores - report.unreadable.keys()
        self._observer.orphans({store: sum(each.store == store for each in left) for store in readable})

    async def run(self) -> tuple[CleanupReport, OrphanCleanup]:
        """The periodic pass: everything that is due, then what destroyed sandboxes have left behind."""
        return await self.cleanup_expired(), await self.cleanup_orphaned_resources()

    async def refresh_gauges(self) -> None:
        """Bring the numbers of sandboxes up to date."""
        async with connected(self._parts.pool) as connection:
            by_owner = await rows.population(connection)
        self._observer.population(by_owner)

    async def record_activity(self, moments: Mapping[UUID, datetime]) -> None:
        """Move `last_activity_at` of these sandboxes, in one statement."""
        if moments:
            async with connected(self._parts.pool) as connection:
                await rows.touch_many(connection, moments)


def _why(sandbox: Sandbox) -> str:
    match sandbox.status:
        case SandboxStatus.RUNNING | SandboxStatus.EXPIRED:
            return "expired"
        case SandboxStatus.PENDING | SandboxStatus.CREATING:
            return "creation abandoned"
        case _:
            return "destruction continued"
