"""Shows sandboxes as tables and facts; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sandbox_core import subjects
from sandbox_core.audit_text import details_line
from sandbox_core.backlog_text import lines as backlog
from sandbox_core.cleanup import OrphanReport
from sandbox_core.health import SandboxHealth
from sandbox_core.limits_text import Limits
from sandbox_core.limits_text import lines as limit_lines
from sandbox_core.models import (
    UNFINISHED_RESET,
    AuditEntry,
    Sandbox,
    SandboxStatus,
    bots_text,
    isolation_text,
    shares_text,
)
from sandbox_core.namespaces import PartState
from sandbox_core.templates import template_after
from sandbox_core.words import counted

from ._screen import Block, Cell, Facts, Grid, Line
from ._words import iso, moment, relative

_STATUS_STYLE = {
    SandboxStatus.PENDING: "blue",
    SandboxStatus.CREATING: "blue",
    SandboxStatus.RUNNING: "green",
    SandboxStatus.EXPIRED: "yellow",
    SandboxStatus.DESTROYING: "yellow",
    SandboxStatus.DESTROYED: "dim",
}
_STATE_STYLE = {PartState.HEALTHY: "green", PartState.DEGRADED: "yellow", PartState.UNHEALTHY: "red"}


def listing(
    sandboxes: Sequence[Sandbox], clients: Mapping[str, int] | None, now: datetime, *, absolute: bool
) -> Grid:
    """One row for each sandbox; `clients` are their bots, `absolute` times are for files and scripts."""
    shared = any(sandbox.shares for sandbox in sandboxes)
    headings = ("name", "id", "owner", "status", "servers", "level", "bots", "ends")
    return Grid(
        (*headings, "shared with") if shared else headings,
        [
            (
                Cell(sandbox.name, "bold"),
                sandbox.short_id,
                _owner(sandbox),
                status_cell(sandbox, now),
                str(len(sandbox.guild_ids)),
                sandbox.rest_level.value,
                "?" if clients is None else str(clients.get(str(sandbox.id), 0)),
                _end(sandbox, now, absolute=absolute),
                *((shares_text(sandbox),) if shared else ()),
            )
            for sandbox in sandboxes
        ],
    )


def status_cell(sandbox: Sandbox, now: datetime) -> Cell:
    """The status in its colour. Past its expiry a sandbox shows as expired, also before cleanup has run."""
    status = sandbox.status
    if status is SandboxStatus.RUNNING and not sandbox.routes_at(now):
        status = SandboxStatus.EXPIRED
    return Cell(status.value, _STATUS_STYLE[status])


def identity(sandbox: Sandbox, now: datetime) -> Facts:
    """A sandbox's names, owner and times."""
    end = sandbox.destroyed_at or sandbox.expires_at
    return Facts(
        [
            ("Name", Cell(sandbox.name, "bold")),
            ("Status", status_cell(sandbox, now)),
            ("Id", str(sandbox.id)),
            ("Owner", _owner(sandbox)),
            ("Servers", ", ".join(sandbox.guild_ids) or "none"),
            ("Shared with", shares_text(sandbox)),
            ("Isolation", isolation_text(sandbox)),
            ("Schema", sandbox.schema_name),
            *([("Template", sandbox.template)] if sandbox.template else []),
            ("Redis keys", f"{subjects.redis_prefix(sandbox.id)}*"),
            ("NATS subjects", subjects.sandbox_events(sandbox.id)),
            ("Destroyed" if sandbox.destroyed_at else "Expires", f"{moment(end)}, {relative(end, now)}"),
        ]
    )


def health(state: SandboxHealth, limits: Limits, now: datetime) -> list[Block]:
    """A sandbox and the health of each of its parts."""
    rows = [
        (
            part.store,
            Cell(part.state.value, _STATE_STYLE[part.state]),
            f"{part.latency_ms:.0f} ms",
            part.detail,
        )
        for part in state.parts
    ]
    overall = Line(f"Overall: {state.overall.value}", _STATE_STYLE[state.overall])
    used = Grid(("limits", "used"), limit_lines(state, limits, now))
    behind = Grid(
        ("backlog", "name", "how far behind"), [(each.what, each.name, each.text) for each in backlog(state)]
    )
    blocks: list[Block] = [
        identity(state.sandbox, now),
        Facts([("Ordinary bots", bots_text(state.sandbox, state.clients))]),
        behind,
        Grid(("part", "state", "took", "detail"), rows),
        used,
    ]
    if state.sandbox.events_dropped_since is not None:
        dropped = counted(state.sandbox.events_dropped, "event", "events")
        since = moment(state.sandbox.events_dropped_since)
        blocks.append(Line(f"{dropped} dropped, since {since}: NATS did not take them.", "yellow"))
    if state.sandbox.resetting:
        blocks.append(Line(UNFINISHED_RESET, "yellow"))
    return [*blocks, overall]


def deletion(sandbox: Sandbox) -> list[str]:
    """The list of everything that destroying the sandbox deletes, for the question."""
    lines = [
        f"{sandbox.name}: this can't be undone. It deletes",
        f"  the schema {sandbox.schema_name} with every table and row in it,",
        f"  every Redis key under {subjects.redis_prefix(sandbox.id)},",
        f"  every message waiting on {subjects.sandbox_filter(sandbox.id)}.",
    ]
    if sandbox.guild_ids:
        servers = counted(len(sandbox.guild_ids), "server", "servers")
        lines.append(f"  The events of {servers} go to production again: {', '.join(sandbox.guild_ids)}.")
    return lines


def emptying(sandbox: Sandbox, template: str | None) -> list[str]:
    """The list of everything that resetting the sandbox deletes, and what stays, for the question."""
    return [
        f"{sandbox.name}: this can't be undone. It deletes",
        f"  every table and row in the schema {sandbox.schema_name},",
        f"  every Redis key under {subjects.redis_prefix(sandbox.id)},",
        f"  every event and dead letter on {subjects.sandbox_filter(sandbox.id)}.",
        f"It begins anew{with_template(template_after(sandbox.template, template))}.",
        "Its servers, credentials, level and expiry stay; its connections to PostgreSQL and Redis end.",
    ]


def with_template(name: str) -> str:
    """The words about a template at the end of a sentence."""
    return f" with the template {name}" if name else ""


def audit(entries: Sequence[AuditEntry]) -> Grid:
    """The audit log, oldest first."""
    return Grid(
        ("time", "event", "actor", "details"),
        [
            (
                iso(entry.created_at),
                Cell(entry.event_type.value, "bold"),
                entry.actor,
                details_line(entry.details),
            )
            for entry in entries
        ],
    )


def orphans(report: OrphanReport) -> list[Block]:
    """The orphans, and the live sandboxes that lack something."""
    blocks: list[Block] = []
    if report.orphans:
        rows = [
            (orphan.store, orphan.name, "a destroyed sandbox" if orphan.known else Cell("unknown", "yellow"))
            for orphan in report.orphans
        ]
        blocks.append(Grid(("store", "orphan", "left by"), rows))
    else:
        where = " in what could be searched" if report.unreadable else ""
        blocks.append(Line(f"There are no orphans{where}."))
    if report.degraded:
        damaged = [(damage.sandbox.name, Cell(damage.missing, "red")) for damage in report.degraded]
        blocks.append(Grid(("running sandbox", "lacks"), damaged))
    return blocks


def _owner(sandbox: Sandbox) -> str:
    name = sandbox.owner_name
    return name if name == sandbox.owner else f"{name} ({sandbox.owner})"


def _end(sandbox: Sandbox, now: datetime, *, absolute: bool) -> str:
    end = sandbox.destroyed_at or sandbox.expires_at
    return iso(end) if absolute else relative(end, now)
