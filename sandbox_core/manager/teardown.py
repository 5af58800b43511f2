"""Taking a sandbox apart: on request, at its end, and for a creation that failed.

Every step may be repeated after a crash in the middle of it. Which steps are done is kept in the table
`sandbox_cleanup`, for people to read: a repetition begins with the first step again, because something may
have been written since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog

from sandbox_core.error_text import explain
from sandbox_core.errors import (
    CleanupFailed,
    DependencyUnavailable,
    SandboxError,
    SandboxNotFound,
    SandboxNotRunning,
    TransitionNotAllowed,
)
from sandbox_core.models import Actor, AuditEvent, Sandbox, SandboxStatus
from sandbox_core.namespaces import Namespace
from sandbox_core.postgres import Connection, audit, connected, guild_mappings, sandboxes, transaction
from sandbox_core.postgres import cleanup as cleanup_rows
from sandbox_core.postgres import routes as route_rows
from sandbox_core.tasks import Overdue, ended_within

from . import rules
from .ports import Changed, Parts, TeardownParts

T = TypeVar("T")
_log = structlog.get_logger("sandbox.manager")

STEP_TIMEOUT = 5.0
"""Seconds that one store may take to make its part."""
DROP_TIMEOUT = 15.0
"""Seconds that one store may take to remove its part while somebody waits for it.

A store that does not answer fails sooner, by the time limit of each request; this is for one with much to do.
"""
UNDO_TIMEOUT = 5.0
"""Seconds that undoing a failed creation may take altogether; what is left is for a later cleanup."""
ABANDONED_AFTER = timedelta(minutes=2)
"""A creation this old has lost its process: each of its steps is bounded to seconds.

As a rule that is known at once, by the end of its session in PostgreSQL; this is for where it can't be told.
"""

ROUTES_STEP = "routes"
STATUS_STEP = "status"
_FIRST_RETRY = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=10)

_DESTROYED = "sandbox destroyed"
_EXPIRED = "sandbox expired"
_LIVE = (SandboxStatus.PENDING, SandboxStatus.CREATING, SandboxStatus.RUNNING, SandboxStatus.EXPIRED)


class StepFailed(Exception):
    """A step of a removal failed. Never leaves the core: callers say what it means for them."""

    def __init__(self, step: str, error: Exception) -> None:
        super().__init__(step)
        self.step = step
        self.error = error

    @property
    def reason(self) -> str:
        """One safe sentence about it."""
        return reason_of(self.error)


async def destroy(parts: Parts, actor: Actor, sandbox: Sandbox) -> Changed:
    """Destroy, or go on with a destruction that stopped."""
    rules.may_change(actor, sandbox, "destroy")
    if _being_created(parts, sandbox):
        raise SandboxNotRunning(sandbox.name, sandbox.status)
    # Whether the claim is ours or not: somebody waits for this, and two at once do no harm. Ours keeps
    # the automatic cleanup away.
    async with parts.claims.hold(sandbox.id):
        destroying = await begin(parts, actor, sandbox.id, {})
        if destroying is None:
            raise SandboxNotFound(sandbox.name)
        try:
            return await take_apart(parts, actor, destroying, {}, patience=DROP_TIMEOUT)
        except StepFailed as failed:
            raise CleanupFailed(sandbox.name, failed.step, failed.reason) from failed.error


def _being_created(parts: TeardownParts, sandbox: Sandbox) -> bool:
    unfinished = sandbox.status in {SandboxStatus.PENDING, SandboxStatus.CREATING}
    return unfinished and parts.clock() - sandbox.created_at < ABANDONED_AFTER


async def undo(
    parts: Parts, actor: Actor, sandbox_id: UUID, made: Sequence[Namespace], cause: BaseException
) -> None:
    """Take back a creation that stopped because of `cause`; never raises for a store being away.

    What can't be taken back now leaves the sandbox `destroying`, for a later cleanup to finish.
    """
    details = {"reason": "creation failed", **_facts(cause)}
    try:
        async with asyncio.timeout(UNDO_TIMEOUT), parts.claims.hold(sandbox_id):
            destroying = await begin(parts, actor, sandbox_id, details)
            if destroying is None:
                return
            if await drop_parts(parts, made, destroying.sandbox, patience=UNDO_TIMEOUT) is None:
                await finish(parts, actor, destroying.sandbox, details)
    except (SandboxError, TimeoutError) as error:
        _log.warning("creation_not_undone", sandbox_id=str(sandbox_id), reason=reason_of(error))
    except Exception:
        # The error that stopped the creation is the caller's; this one must not take its place.
        _log.exception("creation_not_undone", sandbox_id=str(sandbox_id))


async def expire(parts: TeardownParts, actor: Actor, sandbox_id: UUID) -> bool:
    """Go from `running` to `expired` and end the mappings, if the sandbox's time is over; else False."""
    now = parts.clock()
    async with transaction(parts.pool) as connection:
        sandbox = await sandboxes.by_id(connection, sandbox_id, lock=True)
        # It may have been extended since it was found.
        if sandbox is None or sandbox.status is not SandboxStatus.RUNNING or now < sandbox.expires_at:
            return False
        await sandboxes.set_status(
            connection, sandbox_id, SandboxStatus.RUNNING, SandboxStatus.EXPIRED, at=now
        )
        await audit.record(
            connection,
            sandbox_id,
            AuditEvent.STATUS_CHANGED,
            actor=actor,
            at=now,
            details={
                "from": SandboxStatus.RUNNING.value,
                "to": SandboxStatus.EXPIRED.value,
                "expires_at": sandbox.expires_at.isoformat(),
            },
        )
        guild_ids = await _unmap(parts, actor, connection, sandbox_id, _EXPIRED)
    await parts.faults("destroy:expired")
    await parts.send_to_production(sandbox, guild_ids)
    return True


async def begin(
    parts: TeardownParts, actor: Actor, sandbox_id: UUID, details: Mapping[str, Any]
) -> Changed | None:
    """Go to `destroying`, and send the events of its guilds to production first of all.

    Returns the sandbox, also when it was `destroying` before; None when it is destroyed or was never made.
    """
    now = parts.clock()
    async with transaction(parts.pool) as connection:
        sandbox = await sandboxes.by_id(connection, sandbox_id, lock=True)
        if sandbox is None or sandbox.status is SandboxStatus.DESTROYED:
            return None
        guild_ids: list[str] = []
        if sandbox.status in _LIVE:
            before = sandbox.status
            if before is SandboxStatus.PENDING:
                await sandboxes.set_status(connection, sandbox_id, before, SandboxStatus.CREATING, at=now)
                before = SandboxStatus.CREATING
            await sandboxes.set_status(connection, sandbox_id, before, SandboxStatus.DESTROYING, at=now)
            guild_ids = await _unmap(parts, actor, connection, sandbox_id, _DESTROYED)
            await audit.record(
                connection,
                sandbox_id,
                AuditEvent.DESTROYING,
                actor=actor,
                at=now,
                details={"from": sandbox.status.value, "guild_ids": guild_ids, **details},
            )
            sandbox = await sandboxes.by_id(connection, sandbox_id)
    await parts.faults("destroy:destroying")
    return None if sandbox is None else await parts.send_to_production(sandbox, guild_ids)


async def take_apart(
    parts: TeardownParts,
    actor: Actor,
    destroying: Changed,
    details: Mapping[str, Any],
    *,
    patience: float,
) -> Changed:
    """Remove everything of a `destroying` sandbox and end it; each store may take `patience` seconds.

    Raises `StepFailed` after the failure was noted, with the moment before which no automatic cleanup
    tries again.
    """
    started, sandbox = time.perf_counter(), destroying.sandbox
    failed = await _tell_routes(parts, sandbox) or await drop_parts(
        parts, parts.namespaces, sandbox, patience=patience
    )
    if failed is None:
        try:
            destroyed, first = await finish(parts, actor, sandbox, details)
        except DependencyUnavailable as error:
            failed = StepFailed(STATUS_STEP, error)
        else:
            if first:
                parts.observer.destroyed(time.perf_counter() - started)
            return Changed(destroyed, destroying.unconfirmed)
    await note_failure(parts, actor, sandbox, failed)
    raise failed


async def _unmap(
    parts: TeardownParts, actor: Actor, connection: Connection, sandbox_id: UUID, reason: str
) -> list[str]:
    guild_ids = await guild_mappings.remove_all(connection, sandbox_id)
    await audit.record_all(
        connection,
        sandbox_id,
        AuditEvent.GUILD_UNREGISTERED,
        actor=actor,
        at=parts.clock(),
        details=[{"guild_id": guild_id, "reason": reason} for guild_id in guild_ids],
    )
    return guild_ids


async def _tell_routes(parts: TeardownParts, sandbox: Sandbox) -> StepFailed | None:
    """Tell once more where the events of its former guilds go.

    Whoever ended the mappings may have died before telling, and the guilds may have a new sandbox since.
    """
    try:
        async with connected(parts.pool) as connection:
            guild_ids = await cleanup_rows.guilds_taken_away(connection, sandbox.id, (_DESTROYED, _EXPIRED))
            routes = await route_rows.read_many(connection, guild_ids) if guild_ids else {}
        if routes:
            await parts.routes.guilds_changed(routes)
        await _done(parts, sandbox, ROUTES_STEP)
    except DependencyUnavailable as error:
        return StepFailed(ROUTES_STEP, error)
    return None


async def drop_parts(
    parts: TeardownParts, namespaces: Sequence[Namespace], sandbox: Sandbox, *, patience: float
) -> StepFailed | None:
    """Drop each part, the last provisioned first; one that fails does not keep the others.

    Returns the first failure.
    """
    first: StepFailed | None = None
    for namespace in reversed(namespaces):
        try:
            await bounded(namespace.store, namespace.drop(sandbox), within=patience)
            await _done(parts, sandbox, namespace.store)
        except SandboxError as error:
            first = first or StepFailed(namespace.store, error)
        except Exception as error:
            # Whatever stopped this store, the others are to be emptied and the step is to be named.
            _log.exception("part_not_dropped", store=namespace.store, sandbox_id=str(sandbox.id))
            first = first or StepFailed(namespace.store, error)
    return first


async def _done(parts: TeardownParts, sandbox: Sandbox, step: str) -> None:
    async with connected(parts.pool) as connection:
        await cleanup_rows.step_done(connection, sandbox.id, step, parts.clock())
    await parts.faults(f"destroy:{step}")


async def finish(
    parts: TeardownParts, actor: Actor, sandbox: Sandbox, details: Mapping[str, Any]
) -> tuple[Sandbox, bool]:
    """Go to `destroyed`. False with it: somebody else had finished meanwhile, which is as good."""
    now = parts.clock()
    try:
        async with transaction(parts.pool) as connection:
            destroyed = await sandboxes.set_status(
                connection, sandbox.id, SandboxStatus.DESTROYING, SandboxStatus.DESTROYED, at=now
            )
            failures = await cleanup_rows.attempts(connection, sandbox.id)
            steps = await cleanup_rows.forget(connection, sandbox.id)
            await audit.record(
                connection,
                sandbox.id,
                AuditEvent.DESTROYED,
                actor=actor,
                at=now,
                details={**details, "steps": dict(steps), "failed_attempts": failures},
            )
    except TransitionNotAllowed as error:
        if error.current is not SandboxStatus.DESTROYED:
            raise
        async with transaction(parts.pool) as connection:
            # Steps that were noted after the other one had finished.
            await cleanup_rows.forget(connection, sandbox.id)
            return await sandboxes.by_id(connection, sandbox.id) or sandbox, False
    await parts.faults("destroy:destroyed")
    return destroyed, True


async def note_failure(parts: TeardownParts, actor: Actor, sandbox: Sandbox, failed: StepFailed) -> None:
    """Count the failure, and keep its reason and the moment of the next automatic attempt.

    Nothing is noted of a sandbox that somebody else has destroyed meanwhile.
    """
    now = parts.clock()
    try:
        async with transaction(parts.pool) as connection:
            # Not as the caller read it: the attempt may have changed the status before it failed.
            current = await sandboxes.by_id(connection, sandbox.id, lock=True)
            if current is None or current.status is SandboxStatus.DESTROYED:
                return
            earlier = await cleanup_rows.attempts(connection, sandbox.id)
            next_attempt_at = now + pause_after(earlier + 1)
            news = await cleanup_rows.failed(
                connection,
                sandbox.id,
                step=failed.step,
                reason=failed.reason,
                next_attempt_at=next_attempt_at,
            )
            # The same failure again is in the count; a row for each would bury the rest of the log.
            if news:
                await audit.record(
                    connection,
                    sandbox.id,
                    AuditEvent.STATUS_CHANGED,
                    actor=actor,
                    at=now,
                    details={
                        "from": current.status.value,
                        "to": current.status.value,
                        "failed_step": failed.step,
                        "reason": failed.reason,
                        "failed_attempts": earlier + 1,
                        "next_attempt_at": next_attempt_at.isoformat(),
                    },
                )
    except DependencyUnavailable as error:
        # PostgreSQL is what is away. The sandbox stays `destroying`, which is all that a later pass needs.
        _log.warning("failure_not_noted", sandbox_id=str(sandbox.id), reason=error.reason)


def pause_after(attempts: int) -> timedelta:
    """How long automatic cleanup waits after so many failures in a row."""
    doublings = min(max(attempts - 1, 0), 10)
    return min(_FIRST_RETRY * (1 << doublings), _LONGEST_PAUSE)


async def bounded(store: str, work: Coroutine[Any, Any, T], *, within: float | None = None) -> T:
    """Run one store's step. Raises `DependencyUnavailable` when it takes more seconds than `within`."""
    limit = STEP_TIMEOUT if within is None else within
    try:
        return await ended_within(limit, work, name=f"step-{store}")
    except Overdue as error:
        # It may have answered all the time, and have had too much to do.
        raise DependencyUnavailable(store, f"not done within {limit:g} s") from error
    except TimeoutError as error:
        raise DependencyUnavailable(store, "no answer in time") from error


def reason_of(error: BaseException) -> str:
    """A `SandboxError`'s sentence; of anything else only its kind, as its text may hold secrets."""
    return explain(error).sentence if isinstance(error, SandboxError) else type(error).__name__


def _facts(cause: BaseException) -> dict[str, str]:
    if isinstance(cause, SandboxError):
        return {"code": cause.code, "error": reason_of(cause)}
    return {"error": "cancelled" if isinstance(cause, asyncio.CancelledError) else reason_of(cause)}
