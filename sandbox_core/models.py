"""The frozen values of the domain, and the life cycle's transition table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from .errors import TransitionNotAllowed
from .stored import Level, Stored
from .words import storable


class SandboxStatus(StrEnum):
    """The status of a sandbox, with the values of the SQL enum `sandbox_status`."""

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
"""All transitions of the life cycle; any other is refused."""


def check_transition(current: SandboxStatus, target: SandboxStatus) -> None:
    """Raise `TransitionNotAllowed` unless the life cycle has a transition from `current` to `target`."""
    if target not in TRANSITIONS[current]:
        raise TransitionNotAllowed(current, target)


class RestLevel(StrEnum):
    """What a bot in a sandbox may do in its guilds at Discord; each level includes those before."""

    READ_ONLY = "read_only"
    NO_MODERATION = "no_moderation"
    """All but acts against members, such as kicks, bans, timeouts, and the deletion of many messages."""
    FULL = "full"

    def includes(self, other: RestLevel) -> bool:
        """Return whether all that `other` allows is allowed."""
        return _LEVELS.index(self) >= _LEVELS.index(other)


_LEVELS = tuple(RestLevel)


class Resetting(StrEnum):
    """How far a reset is that has not ended."""

    NO = ""
    SCHEMA = "schema"
    """Its schema is made anew: what it has stored may be there, or not."""
    REST = "rest"
    """The schema is new, and the other parts are made anew."""


class ShareAccess(StrEnum):
    """What a colleague may do with a sandbox that its owner shares; the second includes the first."""

    SEE = "see"
    USE = "use"
    """Work in it, with credentials of the colleague's own."""

    def includes(self, other: ShareAccess) -> bool:
        """Return whether all that `other` allows is allowed."""
        return self is ShareAccess.USE or other is ShareAccess.SEE


@dataclass(frozen=True, slots=True)
class Share:
    """A colleague with whom a sandbox is shared."""

    user_id: str
    """Discord user id, as text."""
    access: ShareAccess
    login: str = ""
    """Names the colleague's own credentials: 8 hex digits, others for each sharing; "" without `USE`."""
    user_name: str = ""

    @property
    def shown_name(self) -> str:
        """The colleague's display name when it was shared, or the id when that is unknown."""
        return self.user_name or self.user_id


class AuditEvent(StrEnum):
    """The kinds of rows in the audit log."""

    CREATED = "sandbox_created"
    DESTROYING = "sandbox_destroying"
    DESTROYED = "sandbox_destroyed"
    GUILD_REGISTERED = "guild_registered"
    GUILD_UNREGISTERED = "guild_unregistered"
    TTL_EXTENDED = "ttl_extended"
    STATUS_CHANGED = "status_changed"
    CREDENTIALS_ROTATED = "credentials_rotated"
    REST_LEVEL_CHANGED = "rest_level_changed"
    PRODUCTION_ACCESS_CHANGED = "production_access_changed"
    RESET = "sandbox_reset"
    SHARED = "sandbox_shared"
    UNSHARED = "sandbox_unshared"


@dataclass(frozen=True, slots=True)
class Actor:
    """The person who acts. `id` is a Discord user id as text, or a name such as `cleanup` for the bot."""

    id: str
    display_name: str = ""
    is_bot_owner: bool = False
    via: str = ""
    """The operator who acts for this person, such as `cli:root`; empty when the person acts directly."""

    def __post_init__(self) -> None:
        # A display name is whatever its user has made of it.
        object.__setattr__(self, "display_name", storable(self.display_name))

    @property
    def signature(self) -> str:
        """The actor in the audit log: the id, or `via` for the id."""
        return f"{self.via} for {self.id}" if self.via else self.id


@dataclass(frozen=True, slots=True)
class GuildAccess:
    """The rights of a caller and the bot in one guild, as Discord says now."""

    guild_id: str
    bot_is_member: bool
    caller_manages: bool
    """Whether the caller has Manage Server there."""
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", storable(self.name))


EVENTS_DROPPED = "events_dropped"
EVENTS_DROPPED_SINCE = "events_dropped_since"
"""Keys of a sandbox's metadata."""


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
    generation: int = 0
    """The number of its present credentials; 0 means that it has none of its own."""
    key_id: str = ""
    """The fingerprint of the key that they were made with."""
    rest_level: RestLevel = RestLevel.NO_MODERATION
    storage: tuple[Stored, ...] = ()
    """What it stores, where that was measured, by the stores' names."""
    template: str = ""
    """The name of the template that it began with; "" for none."""
    resetting: Resetting = Resetting.NO
    shares: tuple[Share, ...] = ()
    """The colleagues with whom it is shared, the first one first."""

    @property
    def short_id(self) -> str:
        """The first 8 hex digits of the id; the schema is named by it."""
        return short_id(self.id)

    @property
    def owner_name(self) -> str:
        """The owner's display name at the creation, or the id when it is unknown."""
        return str(self.metadata.get("owner_name") or self.owner)

    @property
    def events_dropped(self) -> int:
        """How many of its events were dropped, because its stream did not take them."""
        return int(self.metadata.get(EVENTS_DROPPED, 0))

    @property
    def events_dropped_since(self) -> datetime | None:
        """When the first of them was; None when none was."""
        since = self.metadata.get(EVENTS_DROPPED_SINCE)
        return None if since is None else datetime.fromtimestamp(float(since), UTC)

    @property
    def guests(self) -> tuple[str, ...]:
        """The logins of the colleagues who may work in it."""
        return tuple(share.login for share in self.shares if share.login)

    def share_of(self, user_id: str) -> Share | None:
        """Return what this colleague may do; None when it is not shared with them."""
        return next((share for share in self.shares if share.user_id == user_id), None)

    def stored(self, store: str) -> Stored | None:
        """Return what it stores in this store; None when that was not measured yet."""
        return next((each for each in self.storage if each.store == store), None)

    def is_full(self, store: str) -> bool:
        """Return whether it stores as much in this store as it may, and has not got room again since."""
        found = self.stored(store)
        return found is not None and found.level is Level.FULL

    def routes_at(self, now: datetime) -> bool:
        """Return whether guilds registered with this sandbox send their events to it at this time."""
        return self.status is SandboxStatus.RUNNING and now < self.expires_at

    def evolve(self, **changes: Any) -> Sandbox:
        """Return a copy with some fields replaced."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Route:
    """The sandbox that gets one guild's events until `expires_at` (seconds since the epoch)."""

    sandbox_id: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class DatedRoute:
    """A guild's route (None: mapped to no running sandbox), and the time for which it is known.

    The time is by the database's clock, in seconds since the epoch: the route contains every change committed
    before it. It is minus infinity when it is unknown.
    """

    route: Route | None
    as_of: float


@dataclass(frozen=True, slots=True)
class Switch:
    """The gateway processes that have confirmed a committed change of routes or not, by name, `host:pid`.

    An unconfirmed process publishes no event of these guilds by the old route until it has caught up.
    """

    confirmed: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()


NOBODY_ASKED = "the gateway"
"""In place of processes' names when it is not known which have switched."""


def shard_of(guild_id: str | int | None, shard_count: int) -> int:
    """The shard that a guild's events come on; the first for what is of no guild.

    From Discord's developer documentation, "Gateway" (sharding).
    """
    return 0 if guild_id is None else (int(guild_id) >> 22) % shard_count


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The data for a RESUME; all frames up to `sequence` are acknowledged.

    The times are in seconds since the epoch, by the clock of the process that saved them.
    """

    session_id: str
    resume_url: str
    sequence: int
    since: float = 0.0
    """No frame after `sequence` was received, or published, before this time."""
    saved_at: float = 0.0
    epoch: int = 0
    """The epoch of the lease under which it was saved; 0 when unknown. See `Leases.mine`."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of `sandbox_audit_log`; it stays after its sandbox was destroyed."""

    id: int
    sandbox_id: UUID
    event_type: AuditEvent
    actor: str
    details: Mapping[str, Any]
    created_at: datetime


UNFINISHED_RESET = (
    "A reset of it has begun and not ended; the bot goes on with it, and so does another reset."
)


def isolation_text(sandbox: Sandbox) -> str:
    """Return how the sandbox is kept apart from others, for people."""
    if sandbox.generation:
        return f"enforced by the servers, with credentials of its own (number {sandbox.generation})"
    return "by convention: its worker keeps to its part"


def shares_text(sandbox: Sandbox) -> str:
    """Return the colleagues with whom it is shared, and what each may do, for people."""
    return ", ".join(f"{share.shown_name} ({share.access})" for share in sandbox.shares) or "nobody"


def level_text(level: RestLevel) -> str:
    """Return what a bot may do on this level, for people: `may …`."""
    return _LEVEL_TEXTS[level]


def bots_text(sandbox: Sandbox, clients: int | None) -> str:
    """Return how many ordinary bots are connected, if that is known, and what they may do."""
    connected = "" if clients is None else f"{clients or 'none'} connected; "
    return f"{connected}may {level_text(sandbox.rest_level)}"


_LEVEL_TEXTS = {
    RestLevel.READ_ONLY: "read in the sandbox's servers, and change nothing (read_only)",
    RestLevel.NO_MODERATION: "do everything in the sandbox's servers but moderate (no_moderation)",
    RestLevel.FULL: "do everything in the sandbox's servers, also kick and ban (full)",
}


def short_id(sandbox_id: UUID) -> str:
    """The first 8 hex digits of a sandbox id."""
    return sandbox_id.hex[:8]
