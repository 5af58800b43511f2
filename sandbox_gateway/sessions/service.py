"""What sessions need of everything around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from ..metrics import ClientMetrics
from ..tenants import Holder, Tenant, Tenants, present
from .feeds import Feeds
from .limits import IdentifyLimits
from .protocol import HEARTBEAT_MS
from .records import Records
from .session_ids import SessionIds


class Snapshots(Protocol):
    """What Discord says now of servers."""

    async def guild_create(
        self, tenant: Holder, guild_id: str, *, intents: int, large_threshold: int
    ) -> bytes | None:
        """Return the `d` of GUILD_CREATE, asked for later than this call; None when the bot is not in it.

        Raises `DependencyUnavailable`.
        """
        ...

    async def members(self, tenant: Holder, asked: Any) -> list[bytes]:
        """Return the `d` of each GUILD_MEMBERS_CHUNK. Raises `DependencyUnavailable`."""
        ...

    async def sounds(self, tenant: Holder, guild_id: str) -> bytes:
        """Return the `d` of SOUNDBOARD_SOUNDS. Raises `DependencyUnavailable`."""
        ...


class GuildLists(Protocol):
    """Which servers there are."""

    async def at_beginning(self, holder: Holder) -> list[str]:
        """Return those that a session begins with, asked for later than this call, in order.

        Raises `DependencyUnavailable`, and `guilds.listing.TooManyServers`.
        """
        ...

    async def now(self, holder: Holder) -> list[str]:
        """Return the same, however many there are. Raises `DependencyUnavailable`."""
        ...


class Seen(Protocol):
    """Notes which interactions a sandbox has seen; the guard asks for it."""

    async def note(
        self, tenant: Holder, kind: Any, entity_id: str, token: str, *, guild_id: str | None = None
    ) -> None:
        """Note it, before the client gets it. Raises `DependencyUnavailable`."""
        ...


class Commands(Protocol):
    """Puts the ids of commands in place that the client knows."""

    async def to_client(self, tenant: Tenant, frame: bytes) -> bytes:
        """Return the frame of an event about a command as the client is to see it."""
        ...


class SessionReports(Protocol):
    """Keeps what happened to sessions, for their owners."""

    def record_session(self, tenant: Holder, what: str, details: Mapping[str, Any]) -> None:
        """Keep one thing that happened to a session."""
        ...


class Unchanged:
    """`Commands` while there are no scopes of commands: every frame passes."""

    async def to_client(self, tenant: Tenant, frame: bytes) -> bytes:
        """Return the same frame."""
        return frame


class NothingKept:
    """`Seen` and `SessionReports` where nobody asks."""

    async def note(
        self, tenant: Holder, kind: Any, entity_id: str, token: str, *, guild_id: str | None = None
    ) -> None:
        """Do nothing."""

    def record_session(self, tenant: Holder, what: str, details: Mapping[str, Any]) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Bot:
    """The one bot that all clients are."""

    user: Mapping[str, Any]
    application_id: str
    flags: int

    @property
    def user_id(self) -> str:
        """The id of its account."""
        return str(self.user["id"])


class Bots(Protocol):
    """Who the bot is."""

    async def get(self, sandbox_id: UUID, *, anew: bool = False) -> Bot:
        """Return it, as Discord says or has said; asked on behalf of a sandbox.

        Raises `DependencyUnavailable`.
        """
        ...


@dataclass(frozen=True, slots=True)
class SessionTuning:
    """Times and sizes of sessions."""

    heartbeat_ms: int = HEARTBEAT_MS
    waiting_events: int = 5000
    """The most events that may wait for a client that does not read."""
    waiting_bytes: int = 16 * 1024 * 1024
    answers_from: int = 4 * 1024 * 1024
    """With more bytes than this waiting, what a client has asked for is not added before it has read some."""
    save_every: float = 1.0
    """Seconds between two savings of where sessions are."""


@dataclass(frozen=True, slots=True)
class Service:
    """Made once in a process."""

    tenants: Tenants
    refresh: Callable[[], Awaitable[None]]
    """Reads the tenants again. Raises `TablesStale`."""
    switched: Callable[[frozenset[str]], Awaitable[None]]
    """Returns when nobody publishes events of these servers by an older route. Raises
    `DependencyUnavailable`."""
    feeds: Feeds
    records: Records
    ids: SessionIds
    limits: IdentifyLimits
    snapshots: Snapshots
    lists: GuildLists
    bots: Bots
    gateway_url: str
    metrics: ClientMetrics
    seen: Seen = field(default_factory=NothingKept)
    commands: Commands = field(default_factory=Unchanged)
    reports: SessionReports = field(default_factory=NothingKept)
    tuning: SessionTuning = field(default_factory=SessionTuning)

    def tenant(self, sandbox_id: UUID) -> Holder | None:
        """Return what is known now of the sandbox, or of production."""
        return present(self.tenants, sandbox_id)
