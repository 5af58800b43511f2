"""Frozen values of the domain, and the life cycle's transition table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from .errors import TransitionNotAllowed


class SandboxStatus(StrEnum):
    """Where a sandbox is in its life; the values are those of the SQL enum `sandbox_status`."""

    PENDING = "pending"
    CREATING = "creating"
    RUNNING = "running"
    EXPIRED = "expired"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


TRANSITIONS: Mapping[SandboxStatus, frozenset[SandboxStatus]] = {
    SandboxStatus.PENDING: frozenset({SandboxStatus.CREATING}),
    SandboxStatus.CREATING: frozenset({SandboxStatus.RUNNING, SandboxStatus.DESTROYING}),
    SandboxStatus.RUNNING: frozenset({SandboxStatus.EXPIRED, SandboxStatus.DESTROYING}),
    SandboxStatus.EXPIRED: frozenset({SandboxStatus.DESTROYING}),
    SandboxStatus.DESTROYING: frozenset({SandboxStatus.DESTROYED}),
    SandboxStatus.DESTROYED: frozenset(),
}
"""Every arrow of the life cycle; what is not here is refused."""


def check_transition(current: SandboxStatus, target: SandboxStatus) -> None:
    """Raise `TransitionNotAllowed` unless the life cycle has an arrow from `current` to `target`."""
    if target not in TRANSITIONS[current]:
        raise TransitionNotAllowed(current, target)


class AuditEvent(StrEnum):
    """The kinds of rows in the audit log."""

    CREATED = "sandbox_created"
    DESTROYING = "sandbox_destroying"
    DESTROYED = "sandbox_destroyed"
    GUILD_REGISTERED = "guild_registered"
    GUILD_UNREGISTERED = "guild_unregistered"
    TTL_EXTENDED = "ttl_extended"
    STATUS_CHANGED = "status_changed"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `id` is a Discord user id as text, or a name such as `cleanup` for automatic work."""

    id: str
    display_name: str = ""
    is_bot_owner: bool = False
    via: str = ""
    """Who carries the request for this person where it is not the person, such as `cli:root`."""

    @property
    def signature(self) -> str:
        """Who did it, for the audit log: the id, after the one who carried the request if there is one."""
        return f"{self.via} for {self.id}" if self.via else self.id


@dataclass(frozen=True, slots=True)
class GuildAccess:
    """What Discord says, looked up live, about a caller and the bot in one guild."""

    guild_id: str
    bot_is_member: bool
    caller_manages: bool
    """The caller has Manage Server there."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One row of `sandboxes` with the guilds mapped to it."""

    id: UUID
    name: str
    owner: str
    """Discord user id, as text."""
    status: SandboxStatus
    schema_name: str
    created_at: datetime
    expires_at: datetime
    destroyed_at: datetime | None = None
    last_activity_at: datetime | None = None
    guild_ids: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def short_id(self) -> str:
        """The first 8 hex digits of the id; part of the schema name."""
        return short_id(self.id)

    @property
    def owner_name(self) -> str:
        """The owner's display name at creation, or the id where none was known."""
        return str(self.metadata.get("owner_name") or self.owner)

    def routes_at(self, now: datetime) -> bool:
        """True while guilds registered to this sandbox send their events to it."""
        return self.status is SandboxStatus.RUNNING and now < self.expires_at

    def evolve(self, **changes: Any) -> Sandbox:
        """A copy with some fields replaced."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Route:
    """Where one guild's events go until `expires_at` (seconds since the epoch)."""

    sandbox_id: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class DatedRoute:
    """A guild's route (None: mapped to no running sandbox), and as of when that is known.

    The moment is the database's, in seconds since the epoch: every change that was committed before it is
    contained. Minus infinity when nobody knows it.
    """

    route: Route | None
    as_of: float


@dataclass(frozen=True, slots=True)
class Switch:
    """What the gateway processes said about a committed change of routes; they are told by name, `host:pid`.

    Until it has caught up, an unconfirmed process publishes nothing of these guilds by an older route.
    """

    confirmed: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()


def shard_of(guild_id: str | int | None, shard_count: int) -> int:
    """The shard that a guild's events come on; the first for what is of no guild.

    From Discord's developer documentation, "Gateway" (sharding).
    """
    return 0 if guild_id is None else (int(guild_id) >> 22) % shard_count


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What a RESUME needs; `sequence` is the last one before which everything is acknowledged.

    The moments are in seconds since the epoch, by the clock of the process that saved them.
    """

    session_id: str
    resume_url: str
    sequence: int
    since: float = 0.0
    """Nothing after `sequence` was received, and so published, before this moment."""
    saved_at: float = 0.0
    epoch: int = 0
    """That of the lease under which it was saved; 0 when not known. See `Leases.mine`."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of `sandbox_audit_log`; it outlives its sandbox."""

    id: int
    sandbox_id: UUID
    event_type: AuditEvent
    actor: str
    details: Mapping[str, Any]
    created_at: datetime


def short_id(sandbox_id: UUID) -> str:
    """The first 8 hex digits of a sandbox id."""
    return sandbox_id.hex[:8]
