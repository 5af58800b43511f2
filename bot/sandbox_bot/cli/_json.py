"""The JSON of every command. `docs/cli.md` documents the keys, which must not change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sandbox_core import subjects
from sandbox_core.backlog_text import dead_letters, stored
from sandbox_core.cleanup import CleanupReport, Orphan, OrphanCleanup, OrphanReport
from sandbox_core.errors import SandboxError
from sandbox_core.health import SandboxHealth
from sandbox_core.isolation import Report, Verdict
from sandbox_core.limits_text import Limits, uses
from sandbox_core.manager import Changed, Extension, Registration, Sharing
from sandbox_core.models import AuditEntry, GuildAccess, Sandbox

from ..doctor import Finding
from ._unconfirmed import unconfirmed_of
from ._words import error_line, iso

Json = dict[str, Any]


def created(made: Changed, now: datetime) -> Json:
    """`create`."""
    return {"sandbox": _sandbox(made.sandbox, now), "unconfirmed": list(made.unconfirmed)}


def listing(sandboxes: Iterable[Sandbox], clients: Mapping[str, int] | None, now: datetime) -> Json:
    """`list`."""
    return {
        "sandboxes": [
            {
                **_sandbox(sandbox, now),
                "clients": None if clients is None else clients.get(str(sandbox.id), 0),
            }
            for sandbox in sandboxes
        ]
    }


def status(health: SandboxHealth, limits: Limits, now: datetime) -> Json:
    """`status`."""
    return {
        "sandbox": _sandbox(health.sandbox, now),
        "clients": health.clients,
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
        "limits": [
            {
                "store": use.store,
                "what": use.what,
                "used": use.used,
                "limit": use.limit,
                "measured_at": _maybe(use.measured_at),
            }
            for use in uses(health, limits)
        ],
        "backlog": _backlog(health),
        "checked_at": iso(now),
    }


def status_unknown(error: SandboxError, now: datetime) -> Json:
    """`status --watch`, while the status is unknown."""
    return {"error": _error(error), "checked_at": iso(now)}


def extended(extension: Extension, now: datetime) -> Json:
    """`extend`."""
    return {"sandbox": _sandbox(extension.sandbox, now), "capped": extension.capped}


def rotated(made: Changed, now: datetime) -> Json:
    """`rotate`."""
    return {"sandbox": _sandbox(made.sandbox, now)}


def level_set(made: Changed, now: datetime) -> Json:
    """`level`."""
    return {"sandbox": _sandbox(made.sandbox, now), "level": made.sandbox.rest_level.value}


def reset(done: Changed, now: datetime) -> Json:
    """`reset`."""
    return {"sandbox": _sandbox(done.sandbox, now)}


def shared(sharing: Sharing, now: datetime) -> Json:
    """`share` and `unshare`."""
    found = sharing.sandbox.share_of(sharing.user_id)
    return {
        "sandbox": _sandbox(sharing.sandbox, now),
        "user_id": sharing.user_id,
        "access": None if found is None else found.access.value,
        "already": sharing.already,
    }


def destroyed(gone: Sequence[Changed], failed: Iterable[tuple[Sandbox, SandboxError]], now: datetime) -> Json:
    """`destroy`."""
    return {
        "destroyed": [_sandbox(each.sandbox, now) for each in gone],
        "failed": [{"name": sandbox.name, **_error(error)} for sandbox, error in failed],
        "unconfirmed": unconfirmed_of(gone),
    }


def registered(changed: Registration, access: GuildAccess, now: datetime, *, checked: bool) -> Json:
    """`register-guild`."""
    return {
        "sandbox": _sandbox(changed.sandbox, now),
        "guild_id": access.guild_id,
        "guild_name": access.name or None,
        "checked": checked,
        "already": changed.already,
        "unconfirmed": list(changed.unconfirmed),
    }


def unregistered(changed: Changed, guild_id: str, now: datetime) -> Json:
    """`unregister-guild`."""
    return {
        "sandbox": _sandbox(changed.sandbox, now),
        "guild_id": guild_id,
        "unconfirmed": list(changed.unconfirmed),
    }


def all_unregistered(
    ended: Mapping[str, Changed], failed: Iterable[tuple[str, Sandbox, SandboxError]]
) -> Json:
    """`unregister-guild --all`, by the servers' ids."""
    return {
        "unregistered": [
            {"guild_id": guild_id, "name": each.sandbox.name} for guild_id, each in ended.items()
        ],
        "unconfirmed": unconfirmed_of(ended.values()),
        "failed": [
            {"guild_id": guild_id, "name": sandbox.name, **_error(error)}
            for guild_id, sandbox, error in failed
        ],
    }


def audit(entries: Iterable[AuditEntry]) -> Json:
    """`audit`."""
    return {
        "entries": [
            {
                "id": str(entry.id),
                "sandbox_id": str(entry.sandbox_id),
                "event": entry.event_type.value,
                "actor": entry.actor,
                "details": dict(entry.details),
                "created_at": iso(entry.created_at),
            }
            for entry in entries
        ]
    }


def cleaned(expired: CleanupReport, left: OrphanCleanup, now: datetime) -> Json:
    """`cleanup`."""
    return {
        "destroyed": [_sandbox(sandbox, now) for sandbox in expired.destroyed],
        "failed": [
            {
                "id": str(failure.sandbox.id),
                "name": failure.sandbox.name,
                "step": failure.step,
                "reason": failure.reason,
                "attempts": failure.attempts,
                "next_attempt_at": iso(failure.next_attempt_at),
            }
            for failure in expired.failed
        ],
        "left_to_others": expired.left_to_others,
        "orphans": orphans(left.found, left),
    }


def orphans(report: OrphanReport, done: OrphanCleanup | None) -> Json:
    """`orphans`."""
    removed = done.removed if done is not None else ()
    failed = done.failed if done is not None else {}
    return {
        "found": [_orphan(orphan) for orphan in report.orphans],
        "removed": [_orphan(orphan) for orphan in removed],
        "failed": [_orphan(orphan) | {"reason": reason} for orphan, reason in failed.items()],
        "damaged": [
            {"id": str(damage.sandbox.id), "name": damage.sandbox.name, "missing": damage.missing}
            for damage in report.degraded
        ],
        "unreadable": dict(report.unreadable),
    }


def doctor(findings: Iterable[Finding], *, ok: bool) -> Json:
    """`doctor`."""
    checks = [
        {
            "area": finding.area,
            "where": finding.where or None,
            "state": finding.state.value,
            "detail": finding.detail,
            "mend": finding.mend or None,
            "commands": list(finding.commands),
        }
        for finding in findings
    ]
    return {"ok": ok, "checks": checks}


def isolation(report: Report) -> Json:
    """`doctor --isolation`."""
    return {
        "ok": report.proven,
        "isolation": "enforced" if report.enforced else "convention",
        "tried": report.tried,
        "denied": report.denied,
        "possible": report.count(Verdict.POSSIBLE),
        "seconds": round(report.seconds, 1),
        "servers": [
            {
                "server": section.title,
                "where": section.where or None,
                "away": section.away or None,
                "attacks": [
                    {
                        "group": each.group,
                        "what": each.what,
                        "result": each.verdict.value,
                        "came_back": each.came_back or None,
                        "reason": each.reason or None,
                    }
                    for each in section.tried
                ],
            }
            for section in report.sections
        ],
        "left": list(report.left),
    }


def migrated(*, down: bool) -> Json:
    """`migrate`."""
    return {"direction": "down" if down else "up"}


def _sandbox(sandbox: Sandbox, now: datetime) -> Json:
    return {
        "id": str(sandbox.id),
        "short_id": sandbox.short_id,
        "name": sandbox.name,
        "owner": sandbox.owner,
        "owner_name": sandbox.metadata.get("owner_name"),
        "status": sandbox.status.value,
        "receives_events": sandbox.routes_at(now),
        "guild_ids": list(sandbox.guild_ids),
        "isolation": "enforced" if sandbox.generation else "convention",
        "level": sandbox.rest_level.value,
        "shared_with": [
            {"user_id": share.user_id, "name": share.user_name or None, "access": share.access.value}
            for share in sandbox.shares
        ],
        "schema": sandbox.schema_name,
        "template": sandbox.template or None,
        "resetting": bool(sandbox.resetting),
        "redis_prefix": subjects.redis_prefix(sandbox.id),
        "nats_prefix": subjects.nats_prefix(sandbox.id),
        "created_at": iso(sandbox.created_at),
        "expires_at": iso(sandbox.expires_at),
        "last_activity_at": _maybe(sandbox.last_activity_at),
        "destroyed_at": _maybe(sandbox.destroyed_at),
        "events_dropped": sandbox.events_dropped,
        "events_dropped_since": _maybe(sandbox.events_dropped_since),
        "stored": [
            {
                "store": each.store,
                "bytes": each.bytes,
                "items": each.items,
                "level": each.level.value,
                "measured_at": iso(each.measured_at),
            }
            for each in sandbox.storage
        ],
    }


def _backlog(health: SandboxHealth) -> Json:
    found = health.backlog
    consumers, sessions = found.consumers, found.sessions
    return {
        "stored": stored(health),
        "dead_letters": dead_letters(health),
        "consumers": None
        if consumers is None
        else [
            {
                "name": each.name,
                "durable": each.durable,
                "lag": each.lag,
                "unacknowledged": each.unacknowledged,
                "redelivered": each.redelivered,
            }
            for each in consumers.known
        ],
        "consumers_unknown": None if consumers is None else list(consumers.unknown),
        "consumers_unread": None if consumers is None else consumers.unread,
        "sessions": None
        if sessions is None
        else [
            {
                "session": each.session.number,
                "library": each.session.library or None,
                "connected": each.session.connected,
                "lag": each.lag,
            }
            for each in sessions
        ],
        "unread": dict(found.unread),
    }


def _orphan(orphan: Orphan) -> Json:
    return {"store": orphan.store, "id": orphan.id, "name": orphan.name, "known": orphan.known}


def _error(error: SandboxError) -> Json:
    return {"code": error.code, "message": error_line(error).removeprefix(f"{error.code}: ")}


def _maybe(when: datetime | None) -> str | None:
    return None if when is None else iso(when)
