"""The interfaces that the manager needs, and the values it takes and returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from sandbox_core.client_endpoint import ClientEndpoint
from sandbox_core.credentials import CredentialsKey
from sandbox_core.errors import IsolationImpossible
from sandbox_core.models import NOBODY_ASKED, Route, Sandbox, Switch
from sandbox_core.namespaces import Namespace
from sandbox_core.postgres import Pool
from sandbox_core.postgres.claims import Claims
from sandbox_core.stored import StorageLimit
from sandbox_core.tasks import after_commit
from sandbox_core.templates import Templates
from sandbox_core.words import storable


@dataclass(frozen=True, slots=True)
class ManagerLimits:
    """The limits from the settings."""

    default_ttl: timedelta
    max_ttl: timedelta
    """The longest life, from the creation."""
    max_per_owner: int
    """The most sandboxes of one owner; all that are not destroyed count."""
    max_guilds: int = 100
    """The most guilds of one sandbox; its worker's environment names them all."""
    max_shares: int = 10
    """The most colleagues with whom one sandbox is shared; each may have connections of their own."""
    storage: Mapping[str, StorageLimit] = field(default_factory=dict)
    """What one sandbox may store, by store."""
    protected_guild_ids: frozenset[str] = frozenset()
    """Guilds that only the bot's owner may register."""


@dataclass(frozen=True, slots=True)
class Colleague:
    """A person to share a sandbox with, as Discord says now."""

    user_id: str
    name: str = ""
    is_bot: bool = False
    exists: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", storable(self.name))


@dataclass(frozen=True, slots=True)
class Changed:
    """A sandbox after an operation."""

    sandbox: Sandbox
    unconfirmed: tuple[str, ...] = ()
    """The gateway processes that have not confirmed the change of its routes; see `Switch`."""


@dataclass(frozen=True, slots=True)
class Extension(Changed):
    """A sandbox with its new expiry."""

    capped: bool = False
    """Whether less was added than asked for."""


@dataclass(frozen=True, slots=True)
class Registration(Changed):
    """A sandbox with the guild that was to be registered."""

    already: bool = False
    """Whether the guild was registered with it before."""


@dataclass(frozen=True, slots=True)
class Sharing(Changed):
    """A sandbox with the colleague whose access was to change."""

    user_id: str = ""
    already: bool = False
    """Whether the colleague had this access before."""


class RouteChanges(Protocol):
    """Announces each committed change of routes."""

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Return when every event of these guilds that this process has by now has its side.

        Call it before a change: an event is from before it, and must not go by the new route. Raises
        `DependencyUnavailable` when that is not known in time.
        """
        ...

    async def guilds_changed(self, routes: Mapping[str, Route | None]) -> Switch:
        """Wait until every gateway process has confirmed, or a limit; a route None means production.

        A server that is away or fails is no error here: the database already has the change.
        """
        ...


class ManagerObserver(Protocol):
    """Counts what the manager does; durations are in seconds."""

    def created(self, seconds: float) -> None: ...

    def create_failed(self, reason: str, seconds: float) -> None:
        """`reason` is an error code, `CANCELLED`, or `INTERNAL` for a fault without a code.

        `seconds` include the undo.
        """
        ...

    def destroyed(self, seconds: float) -> None: ...

    def reset(self, result: str, seconds: float) -> None:
        """`result` is `done` or `failed`."""
        ...


class NoObserver:
    """Ignores everything."""

    def created(self, seconds: float) -> None:
        """Do nothing."""

    def create_failed(self, reason: str, seconds: float) -> None:
        """Do nothing."""

    def destroyed(self, seconds: float) -> None:
        """Do nothing."""

    def reset(self, result: str, seconds: float) -> None:
        """Do nothing."""


FaultPoint = Callable[[str], Awaitable[None]]
"""Awaited after each step with its name. Tests stop or kill the process there."""


async def no_fault(_point: str) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeardownTools:
    """What the removal of a sandbox needs."""

    pool: Pool
    namespaces: tuple[Namespace, ...]
    """In the order of provisioning; they are dropped in reverse."""
    routes: RouteChanges
    clock: Callable[[], datetime]
    observer: ManagerObserver
    claims: Claims
    faults: FaultPoint = no_fault
    templates: Templates = field(default_factory=lambda: Templates(None))
    """What sandboxes may begin with."""

    async def send_to(self, sandbox: Sandbox) -> Changed:
        """Announce that the sandbox's guilds now send their events to it."""
        route = Route(str(sandbox.id), sandbox.expires_at.timestamp())
        return await self._tell(sandbox, dict.fromkeys(sandbox.guild_ids, route))

    async def send_to_production(self, sandbox: Sandbox, guild_ids: list[str]) -> Changed:
        """Announce that these guilds now send their events to production, and no longer to the sandbox."""
        return await self._tell(sandbox, dict.fromkeys(guild_ids))

    async def _tell(self, sandbox: Sandbox, routes: Mapping[str, Route | None]) -> Changed:
        if not routes:
            return Changed(sandbox)
        # PostgreSQL tells the processes, too, and they write the caches again.
        with after_commit("routes"):
            switch = await self.routes.guilds_changed(routes)
            return Changed(sandbox, switch.unconfirmed)
        return Changed(sandbox, (NOBODY_ASKED,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools(TeardownTools):
    """What the manager's operations need."""

    limits: ManagerLimits
    new_id: Callable[[], UUID]
    key: CredentialsKey | None = None
    """The key of sandboxes' credentials."""
    endpoint: ClientEndpoint | None = None
    """Where sandboxes' unmodified bots connect to."""
    enforced: bool = False
    """Whether new sandboxes get credentials, and not keep apart by convention."""
    hindrance: Callable[[], IsolationImpossible | None] = lambda: None
    """Why the settings allow no new sandbox; asked where `enforced`."""
