"""Removes a sandbox: on request, after its expiry, and after a failed creation.

Every step can be repeated after a crash in the middle of it. The table `sandbox_cleanup` records the finished
steps, only for people to read. A repetition starts with the first step again, because a worker may have
written something since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog

from sandbox_core.errors import (
    CleanupFailed,
    DependencyUnavailable,
    NotFinished,
    OutcomeUnknown,
    SandboxError,
    SandboxNotFound,
    SandboxNotRunning,
    TransitionNotAllowed,
)
from sandbox_core.models import Actor, AuditEvent, Sandbox, SandboxStatus
from sandbox_core.namespaces import Namespace, SchemaProvisioner
from sandbox_core.namespaces.base import drop_orphan
from sandbox_core.postgres import Connection, audit, connected, guild_mappings, sandboxes, shares, transaction
from sandbox_core.postgres import cleanup as cleanup_rows
from sandbox_core.postgres import routes as route_rows
from sandbox_core.tasks import Overdue, after_commit, ended_within

from . import credentials as credential_steps
from . import rules
from .failures import StepFailed, note_failure, reason_of
from .ports import Changed, TeardownTools, Tools

T = TypeVar("T")
_log = structlog.get_logger("sandbox.manager")

STEP_TIMEOUT = 5.0
"""The limit in seconds for one store to create its part."""
DROP_TIMEOUT = 15.0
"""The limit in seconds for one store to remove its part while a caller waits.

A store that does not answer fails sooner, by the limit of each request; this one is for a store with much to
remove.
"""
UNDO_TIMEOUT = 5.0
"""The limit in seconds for the undo of a failed creation; a later cleanup removes the rest."""
ABANDONED_AFTER = timedelta(minutes=2)
"""A creation of this age has lost its process: each of its steps is limited to seconds.

Usually the end of its session in PostgreSQL shows this at once; this limit is for when it does not.
"""

ROUTES_STEP = "routes"
STATUS_STEP = "status"

_DESTROYED = "sandbox destroyed"
_EXPIRED = "sandbox expired"
_LIVE = (SandboxStatus.PENDING, SandboxStatus.CREATING, SandboxStatus.RUNNING, SandboxStatus.EXPIRED)


async def destroy(tools: Tools, actor: Actor, sandbox: Sandbox) -> Changed:
    """Destroy the sandbox, or continue an interrupted destruction."""
    rules.may_change(actor, sandbox, "destroy")
    if _being_created(tools, sandbox):
        raise SandboxNotRunning(sandbox.name, sandbox.status)
    await tools.routes.settled(sandbox.guild_ids)
    # It runs also without the claim: a caller waits, and two removals at once do no harm. The claim
    # only keeps the automatic cleanup away.
    async with tools.claims.hold(sandbox.id):
        destroying = await begin(tools, actor, sandbox.id, {})
        if destroying is None:
            raise SandboxNotFound(sandbox.name)
        try:
            return await take_apart(tools, actor, destroying, {}, patience=DROP_TIMEOUT)
        except StepFailed as failed:
            raise CleanupFailed(sandbox.name, failed.step, failed.reason) from failed.error


def _being_created(tools: TeardownTools, sandbox: Sandbox) -> bool:
    unfinished = sandbox.status in {SandboxStatus.PENDING, SandboxStatus.CREATING}
    return unfinished and tools.clock() - sandbox.created_at < ABANDONED_AFTER


async def undo(
    tools: Tools, actor: Actor, sandbox_id: UUID, made: Sequence[Namespace], cause: BaseException
) -> bool:
    """Undo a creation that stopped because of `cause`; never raises when a store is away.

    Return whether nothing of it is left.

    If a part can't be removed now, the sandbox stays `destroying`, and a later cleanup removes it.
    """
    details = {"reason": "creation failed", **_facts(cause)}
    try:
        async with asyncio.timeout(UNDO_TIMEOUT), tools.claims.hold(sandbox_id):
            destroying = await begin(tools, actor, sandbox_id, details)
            if destroying is None:
                # Whoever took it for abandoned may have removed its parts before the last one was made. A
                # schema's name can be another sandbox's by now; a whole id can't.
                for namespace in made:
                    if namespace.store != SchemaProvisioner.store:
                        await drop_orphan(namespace, str(sandbox_id), _is_gone)
                return True
            if await drop_parts(tools, made, destroying.sandbox, patience=UNDO_TIMEOUT) is None:
                await finish(tools, actor, destroying.sandbox, details)
                return True
    except (SandboxError, TimeoutError) as error:
        _log.warning("creation_not_undone", sandbox_id=str(sandbox_id), reason=reason_of(error))
    except Exception:
        # The caller needs the error that stopped the creation, not this one.
        _log.exception("creation_not_undone", sandbox_id=str(sandbox_id))
    return False


async def _is_gone() -> bool:
    return True


async def expire(tools: TeardownTools, actor: Actor, sandbox_id: UUID) -> bool:
    """Change an expired sandbox from `running` to `expired`, and end its mappings. Return whether it did."""
    now = tools.clock()
    async with transaction(tools.pool) as connection:
        sandbox = await sandboxes.by_id(connection, sandbox_id, lock=True)
        # It may have been extended meanwhile.
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
        guild_ids = await _unmap(tools, actor, connection, sandbox_id, _EXPIRED)
    await tools.faults("destroy:expired")
    await _closed(tools, sandbox, tools.send_to_production(sandbox, guild_ids))
    return True


async def begin(
    tools: TeardownTools, actor: Actor, sandbox_id: UUID, details: Mapping[str, Any]
) -> Changed | None:
    """Change the status to `destroying`, and send the events of its guilds to production.

    Return the sandbox, also when it was `destroying` before; None when it is destroyed or never existed.
    """
    now = tools.clock()
    async with transaction(tools.pool) as connection:
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
            guild_ids = await _unmap(tools, actor, connection, sandbox_id, _DESTROYED)
            await audit.record(
                connection,
                sandbox_id,
                AuditEvent.DESTROYING,
                actor=actor,
                at=now,
                details={"from": sandbox.status.value, "guild_ids": guild_ids, **details},
            )
            sandbox = await sandboxes.by_id(connection, sandbox_id)
    await tools.faults("destroy:destroying")
    if sandbox is None:
        return None
    return await _closed(tools, sandbox, tools.send_to_production(sandbox, guild_ids))


async def _closed(
    tools: TeardownTools, sandbox: Sandbox, announcing: Coroutine[Any, Any, Changed]
) -> Changed:
    """Refuse the sandbox's credentials while its routes are announced: neither waits for the other."""
    async with asyncio.TaskGroup() as group:
        announced = group.create_task(announcing)
        group.create_task(credential_steps.revoke(tools, sandbox))
    return announced.result()


async def take_apart(
    tools: TeardownTools,
    actor: Actor,
    destroying: Changed,
    details: Mapping[str, Any],
    *,
    patience: float,
) -> Changed:
    """Remove everything of a `destroying` sandbox, and change it to `destroyed`.

    `patience` is the limit in seconds for each store. Raises `StepFailed` after it has stored the failure
    with the time of the next automatic attempt.
    """
    started, sandbox = time.perf_counter(), destroying.sandbox
    failed = await _tell_routes(tools, sandbox) or await drop_parts(
        tools, tools.namespaces, sandbox, patience=patience
    )
    if failed is None:
        try:
            destroyed, first = await finish(tools, actor, sandbox, details)
        except DependencyUnavailable as error:
            failed = StepFailed(STATUS_STEP, error)
        else:
            if first:
                with after_commit("metrics"):
                    tools.observer.destroyed(time.perf_counter() - started)
            return Changed(destroyed, destroying.unconfirmed)
    await note_failure(tools, actor, sandbox, failed)
    raise failed


async def _unmap(
    tools: TeardownTools, actor: Actor, connection: Connection, sandbox_id: UUID, reason: str
) -> list[str]:
    guild_ids = await guild_mappings.remove_all(connection, sandbox_id)
    await audit.record_all(
        connection,
        sandbox_id,
        AuditEvent.GUILD_UNREGISTERED,
        actor=actor,
        at=tools.clock(),
        details=[{"guild_id": guild_id, "reason": reason} for guild_id in guild_ids],
    )
    return guild_ids


async def _tell_routes(tools: TeardownTools, sandbox: Sandbox) -> StepFailed | None:
    """Announce the routes of its former guilds again.

    The process that ended the mappings may have died before it announced them. The guilds may have a new
    sandbox by now.
    """
    try:
        async with connected(tools.pool) as connection:
            guild_ids = await cleanup_rows.guilds_taken_away(connection, sandbox.id, (_DESTROYED, _EXPIRED))
            routes = await route_rows.read_many(connection, guild_ids) if guild_ids else {}
        if routes:
            with after_commit("routes"):
                await tools.routes.guilds_changed(routes)
        await _done(tools, sandbox, ROUTES_STEP)
    except DependencyUnavailable as error:
        return StepFailed(ROUTES_STEP, error)
    return None


async def drop_parts(
    tools: TeardownTools, namespaces: Sequence[Namespace], sandbox: Sandbox, *, patience: float
) -> StepFailed | None:
    """Drop each part, in reverse order of provisioning; a failure does not stop the others.

    Return the first failure.
    """
    first: StepFailed | None = None
    for namespace in reversed(namespaces):
        try:
            await bounded(namespace.store, namespace.drop(sandbox), within=patience)
            await _done(tools, sandbox, namespace.store)
        except SandboxError as error:
            first = first or StepFailed(namespace.store, error)
        except Exception as error:
            # After any error the other stores are still emptied, and the failed step is reported.
            _log.exception("part_not_dropped", store=namespace.store, sandbox_id=str(sandbox.id))
            first = first or StepFailed(namespace.store, error)
    return first


async def _done(tools: TeardownTools, sandbox: Sandbox, step: str) -> None:
    # Only for people to read.
    with after_commit("step"):
        async with connected(tools.pool) as connection:
            await cleanup_rows.step_done(connection, sandbox.id, step, tools.clock())
    await tools.faults(f"destroy:{step}")


async def finish(
    tools: TeardownTools, actor: Actor, sandbox: Sandbox, details: Mapping[str, Any]
) -> tuple[Sandbox, bool]:
    """Change the status to `destroyed`. Return also False when another caller has finished before."""
    try:
        return await _finish(tools, actor, sandbox, details)
    except OutcomeUnknown:
        # To be told that it failed when it is destroyed would be wrong, and once more does no harm.
        destroyed, _ = await _finish(tools, actor, sandbox, details)
        return destroyed, True


async def _finish(
    tools: TeardownTools, actor: Actor, sandbox: Sandbox, details: Mapping[str, Any]
) -> tuple[Sandbox, bool]:
    now = tools.clock()
    try:
        async with transaction(tools.pool) as connection:
            destroyed = await sandboxes.set_status(
                connection, sandbox.id, SandboxStatus.DESTROYING, SandboxStatus.DESTROYED, at=now
            )
            failures = await cleanup_rows.attempts(connection, sandbox.id)
            steps = await cleanup_rows.forget(connection, sandbox.id)
            await shares.remove_all(connection, sandbox.id)
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
        with after_commit("steps"):
            async with transaction(tools.pool) as connection:
                # Remove steps that were recorded after the other caller had finished.
                await cleanup_rows.forget(connection, sandbox.id)
                return await sandboxes.by_id(connection, sandbox.id) or sandbox, False
        return replace(sandbox, status=SandboxStatus.DESTROYED), False
    await tools.faults("destroy:destroyed")
    return destroyed, True


async def bounded(store: str, work: Coroutine[Any, Any, T], *, within: float | None = None) -> T:
    """Run one store's step. Raises `DependencyUnavailable` after `within` seconds."""
    limit = STEP_TIMEOUT if within is None else within
    try:
        return await ended_within(limit, work, name=f"step-{store}")
    except Overdue as error:
        # The store may have answered, and had too much to do.
        raise NotFinished(store, limit) from error
    except TimeoutError as error:
        raise DependencyUnavailable(store, "no answer in time") from error


def _facts(cause: BaseException) -> dict[str, str]:
    if isinstance(cause, SandboxError):
        return {"code": cause.code, "error": reason_of(cause)}
    return {"error": "cancelled" if isinstance(cause, asyncio.CancelledError) else reason_of(cause)}
