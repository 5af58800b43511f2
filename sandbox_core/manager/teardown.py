"""Taking a sandbox apart: for a destruction, and for a creation that failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Any
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
from sandbox_core.postgres import audit, guild_mappings, sandboxes, transaction

from . import rules
from .ports import Parts

_log = structlog.get_logger("sandbox.manager")

STEP_TIMEOUT = 5.0
"""Seconds that one store may take for its part."""
UNDO_TIMEOUT = 5.0
"""Seconds that undoing a failed creation may take altogether; what is left is for a later cleanup."""
ABANDONED_AFTER = timedelta(minutes=2)
"""A creation this old has lost its process: each of its steps is bounded to seconds."""

_STATUS_STEP = "status"
_LIVE = (SandboxStatus.PENDING, SandboxStatus.CREATING, SandboxStatus.RUNNING, SandboxStatus.EXPIRED)


async def destroy(parts: Parts, actor: Actor, sandbox: Sandbox) -> Sandbox:
    """Destroy, or go on with a destruction that stopped."""
    rules.may_change(actor, sandbox, "destroy")
    if _being_created(parts, sandbox):
        raise SandboxNotRunning(sandbox.name, sandbox.status)
    started = time.perf_counter()
    destroying = await begin(parts, actor, sandbox.id, {})
    if destroying is None:
        raise SandboxNotFound(sandbox.name)
    failed = await drop_parts(parts.namespaces, destroying)
    if failed is not None:
        step, error = failed
        raise CleanupFailed(sandbox.name, step, _reason(error)) from error
    try:
        destroyed = await finish(parts, actor, destroying, {})
    except DependencyUnavailable as error:
        raise CleanupFailed(sandbox.name, _STATUS_STEP, _reason(error)) from error
    parts.observer.destroyed(time.perf_counter() - started)
    return destroyed


def _being_created(parts: Parts, sandbox: Sandbox) -> bool:
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
        async with asyncio.timeout(UNDO_TIMEOUT):
            destroying = await begin(parts, actor, sandbox_id, details)
            if destroying is None:
                return
            if await drop_parts(made, destroying) is None:
                await finish(parts, actor, destroying, details)
    except (SandboxError, TimeoutError) as error:
        _log.warning("creation_not_undone", sandbox_id=str(sandbox_id), reason=_reason(error))
    except Exception:
        # The error that stopped the creation is the caller's; this one must not take its place.
        _log.exception("creation_not_undone", sandbox_id=str(sandbox_id))


async def begin(parts: Parts, actor: Actor, sandbox_id: UUID, details: Mapping[str, Any]) -> Sandbox | None:
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
            guild_ids = await guild_mappings.remove_all(connection, sandbox_id)
            await audit.record_all(
                connection,
                sandbox_id,
                AuditEvent.GUILD_UNREGISTERED,
                actor=actor,
                at=now,
                details=[{"guild_id": guild_id, "reason": "sandbox destroyed"} for guild_id in guild_ids],
            )
            await audit.record(
                connection,
                sandbox_id,
                AuditEvent.DESTROYING,
                actor=actor,
                at=now,
                details={"from": sandbox.status.value, "guild_ids": guild_ids, **details},
            )
            sandbox = await sandboxes.by_id(connection, sandbox_id)
    await parts.send_to_production(guild_ids)
    return sandbox


async def drop_parts(namespaces: Sequence[Namespace], sandbox: Sandbox) -> tuple[str, Exception] | None:
    """Drop each part, the last provisioned first; one that fails does not keep the others.

    Returns the first store that failed with its error.
    """
    failed: tuple[str, Exception] | None = None
    for namespace in reversed(namespaces):
        try:
            await bounded(namespace.store, namespace.drop(sandbox))
        except SandboxError as error:
            failed = failed or (namespace.store, error)
        except Exception as error:
            # Whatever stopped this store, the others are to be emptied and the step is to be named.
            _log.exception("part_not_dropped", store=namespace.store, sandbox_id=str(sandbox.id))
            failed = failed or (namespace.store, error)
    return failed


async def finish(parts: Parts, actor: Actor, sandbox: Sandbox, details: Mapping[str, Any]) -> Sandbox:
    """Go to `destroyed`; when somebody else has finished meanwhile, that is as good."""
    now = parts.clock()
    try:
        async with transaction(parts.pool) as connection:
            destroyed = await sandboxes.set_status(
                connection, sandbox.id, SandboxStatus.DESTROYING, SandboxStatus.DESTROYED, at=now
            )
            await audit.record(
                connection, sandbox.id, AuditEvent.DESTROYED, actor=actor, at=now, details=details
            )
    except TransitionNotAllowed as error:
        if error.current is not SandboxStatus.DESTROYED:
            raise
        async with transaction(parts.pool) as connection:
            return await sandboxes.by_id(connection, sandbox.id) or sandbox
    return destroyed


async def bounded(store: str, work: Awaitable[None]) -> None:
    """Run one store's step. Raises `DependencyUnavailable` when it takes too long."""
    try:
        async with asyncio.timeout(STEP_TIMEOUT):
            await work
    except TimeoutError as error:
        raise DependencyUnavailable(store, f"no answer within {STEP_TIMEOUT:g} s") from error


def _reason(error: BaseException) -> str:
    """A `SandboxError`'s sentence; of anything else only its kind, as its text may hold secrets."""
    return explain(error).sentence if isinstance(error, SandboxError) else type(error).__name__


def _facts(cause: BaseException) -> dict[str, str]:
    if isinstance(cause, SandboxError):
        return {"code": cause.code, "error": _reason(cause)}
    return {"error": "cancelled" if isinstance(cause, asyncio.CancelledError) else _reason(cause)}
