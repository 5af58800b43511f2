"""What the manager needs from outside, and the values it takes and gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from sandbox_core.models import Route, Sandbox, Switch
from sandbox_core.namespaces import Namespace
from sandbox_core.postgres import Pool
from sandbox_core.postgres.claims import Claims


@dataclass(frozen=True, slots=True)
class ManagerLimits:
    """The rules that a deployment may set."""

    default_ttl: timedelta
    max_ttl: timedelta
    """The longest life, counted from the creation."""
    max_per_owner: int
    """Sandboxes one owner may have at a time; all that are not destroyed count."""
    max_guilds: int = 100
    """Guilds that one sandbox may have; its worker's environment names them all."""
    protected_guild_ids: frozenset[str] = frozenset()
    """Guilds that only the bot's owner may register."""


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
    """True when less was added than asked for."""


class RouteChanges(Protocol):
    """Told after every committed change of where guilds' events go."""

    async def guilds_changed(self, routes: Mapping[str, Route | None]) -> Switch:
        """Return once every gateway process routes accordingly, or is known not to; None means production.

        Never raises because a server is away: the database already holds the truth.
        """
        ...


class ManagerObserver(Protocol):
    """Counts what the manager does; durations are in seconds."""

    def created(self, seconds: float) -> None: ...

    def create_failed(self, reason: str, seconds: float) -> None:
        """`reason` is an error code, `CANCELLED`, or `INTERNAL` for a fault without a code.

        `seconds` include what undoing took.
        """
        ...

    def destroyed(self, seconds: float) -> None: ...


class NoObserver:
    """Counts nothing."""

    def created(self, seconds: float) -> None:
        """Ignore it."""

    def create_failed(self, reason: str, seconds: float) -> None:
        """Ignore it."""

    def destroyed(self, seconds: float) -> None:
        """Ignore it."""


FaultPoint = Callable[[str], Awaitable[None]]
"""Awaited after each step with its name. Tests stop or kill the process there."""


async def no_fault(_point: str) -> None:
    """Go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeardownParts:
    """What taking a sandbox apart works with."""

    pool: Pool
    namespaces: tuple[Namespace, ...]
    """In the order they are provisioned; they are dropped in reverse."""
    routes: RouteChanges
    clock: Callable[[], datetime]
    observer: ManagerObserver
    claims: Claims
    faults: FaultPoint = no_fault

    async def send_to(self, sandbox: Sandbox) -> Changed:
        """Tell that the sandbox's guilds now send their events to it."""
        route = Route(str(sandbox.id), sandbox.expires_at.timestamp())
        return await self._tell(sandbox, dict.fromkeys(sandbox.guild_ids, route))

    async def send_to_production(self, sandbox: Sandbox, guild_ids: list[str]) -> Changed:
        """Tell that these guilds now send their events to production, and no longer to the sandbox."""
        return await self._tell(sandbox, dict.fromkeys(guild_ids))

    async def _tell(self, sandbox: Sandbox, routes: Mapping[str, Route | None]) -> Changed:
        if not routes:
            return Changed(sandbox)
        switch = await self.routes.guilds_changed(routes)
        return Changed(sandbox, switch.unconfirmed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(TeardownParts):
    """What the manager's operations work with, handed from one to the next."""

    limits: ManagerLimits
    new_id: Callable[[], UUID]
