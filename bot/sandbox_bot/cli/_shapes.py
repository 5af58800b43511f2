"""The JSON of every command; the keys are documented in `docs/cli.md` and stay as they are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sandbox_core import subjects
from sandbox_core.cleanup import Orphan, OrphanCleanup, OrphanReport
from sandbox_core.errors import SandboxError
from sandbox_core.health import SandboxHealth
from sandbox_core.models import AuditEntry, Sandbox
from sandbox_core.postgres.cleanup import Failure

from ._words import error_line, iso

Shape = dict[str, Any]


def sandbox_shape(sandbox: Sandbox, now: datetime) -> Shape:
    """One sandbox."""
    return {
        "id": str(sandbox.id),
        "short_id": sandbox.short_id,
        "name": sandbox.name,
        "owner": sandbox.owner,
        "owner_name": sandbox.metadata.get("owner_name"),
        "status": sandbox.status.value,
        "receives_events": sandbox.routes_at(now),
        "guild_ids": list(sandbox.guild_ids),
        "schema": sandbox.schema_name,
        "redis_prefix": subjects.redis_prefix(sandbox.id),
        "nats_prefix": subjects.nats_prefix(sandbox.id),
        "created_at": iso(sandbox.created_at),
        "expires_at": iso(sandbox.expires_at),
        "last_activity_at": _maybe(sandbox.last_activity_at),
        "destroyed_at": _maybe(sandbox.destroyed_at),
    }


def health_shape(health: SandboxHealth, now: datetime) -> Shape:
    """A sandbox with the state of its parts."""
    return {
        "sandbox": sandbox_shape(health.sandbox, now),
        "overall": health.overall.value,
        "parts": [
            {
                "store": part.store,
                "state": part.state.value,
                "detail": part.detail,
                "latency_ms": round(part.latency_ms, 1),
                "facts": dict(part.facts),
            }
            for part in health.parts
        ],
        "checked_at": iso(now),
    }


def entry_shape(entry: AuditEntry) -> Shape:
    """One row of the audit log."""
    return {
        "id": entry.id,
        "sandbox_id": str(entry.sandbox_id),
        "event": entry.event_type.value,
        "actor": entry.actor,
        "details": dict(entry.details),
        "created_at": iso(entry.created_at),
    }


def failure_shape(failure: Failure) -> Shape:
    """A sandbox that could not be removed now."""
    return {
        "id": str(failure.sandbox.id),
        "name": failure.sandbox.name,
        "step": failure.step,
        "reason": failure.reason,
        "attempts": failure.attempts,
        "next_attempt_at": iso(failure.next_attempt_at),
    }


def orphans_shape(report: OrphanReport, done: OrphanCleanup | None) -> Shape:
    """What a search for orphans found, and what removing them did."""
    removed = done.removed if done is not None else ()
    failed = done.failed if done is not None else {}
    return {
        "found": [_orphan_shape(orphan) for orphan in report.orphans],
        "removed": [_orphan_shape(orphan) for orphan in removed],
        "failed": [_orphan_shape(orphan) | {"reason": reason} for orphan, reason in failed.items()],
        "damaged": [
            {"id": str(damage.sandbox.id), "name": damage.sandbox.name, "missing": damage.missing}
            for damage in report.degraded
        ],
        "unreadable": dict(report.unreadable),
    }


def _orphan_shape(orphan: Orphan) -> Shape:
    return {"store": orphan.store, "id": orphan.id, "name": orphan.name, "known": orphan.known}


def error_shape(error: SandboxError) -> Shape:
    """A refusal or failure inside a larger answer."""
    return {"code": error.code, "message": error_line(error).removeprefix(f"{error.code}: ")}


def _maybe(when: datetime | None) -> str | None:
    return None if when is None else iso(when)
