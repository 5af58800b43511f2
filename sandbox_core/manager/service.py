"""The life of sandboxes, as one object for every face: Discord, the owner's messages, the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from sandbox_core.health import SandboxHealth
from sandbox_core.models import Actor, GuildAccess, Sandbox, SandboxStatus
from sandbox_core.namespaces import Namespace

from .ports import Extension, ManagerLimits, ManagerObserver, NoObserver, RouteChanges

Sandboxes = list[Sandbox]
"""Named here because `SandboxManager.list` hides the type's own name inside the class."""


def utc_now() -> datetime:
    """The present moment, aware and in UTC."""
    return datetime.now(UTC)


class SandboxManager:
    """Creates, finds, changes and destroys sandboxes; each rule about who may do what is here, once.

    Every method raises `DependencyUnavailable` when a server it needs is away.
    """

    def __init__(
        self,
        *,
        pool: asyncpg.Pool[Any],
        namespaces: Sequence[Namespace],
        routes: RouteChanges,
        limits: ManagerLimits,
        clock: Callable[[], datetime] = utc_now,
        observer: ManagerObserver | None = None,
    ) -> None:
        """`namespaces` in the order they are provisioned; they are dropped in reverse."""
        self._pool = pool
        self._namespaces = tuple(namespaces)
        self._routes = routes
        self._limits = limits
        self._clock = clock
        self._observer = observer or NoObserver()

    async def create(
        self,
        actor: Actor,
        *,
        name: str | None = None,
        ttl: str | None = None,
        guilds: Sequence[GuildAccess] = (),
    ) -> Sandbox:
        """Make a sandbox and register `guilds` with it; it is running when this returns."""
        raise NotImplementedError

    async def get(self, reference: str) -> Sandbox:
        """The sandbox with this name, id or short id, unless it is destroyed."""
        raise NotImplementedError

    async def list(
        self,
        *,
        owner: str | None = None,
        status: SandboxStatus | None = None,
        include_destroyed: bool = False,
    ) -> Sandboxes:
        """Sandboxes, newest first."""
        raise NotImplementedError

    async def suggest(self, prefix: str, *, owner_first: str) -> Sandboxes:
        """At most 25 sandboxes for an autocomplete list, those of `owner_first` before the others."""
        raise NotImplementedError

    async def for_guild(self, guild_id: str) -> Sandbox | None:
        """The sandbox this guild is registered with; ask its `routes_at` whether it still receives events."""
        raise NotImplementedError

    async def register_guild(self, actor: Actor, reference: str, access: GuildAccess) -> Sandbox:
        """Send the guild's events to the sandbox; once registered there, again is fine."""
        raise NotImplementedError

    async def unregister_guild(
        self, actor: Actor, access: GuildAccess, *, reference: str | None = None
    ) -> Sandbox:
        """Send the guild's events to production again; returns the sandbox that had them."""
        raise NotImplementedError

    async def extend(self, actor: Actor, reference: str, duration: str) -> Extension:
        """Add to the present expiry, up to the longest life from the creation."""
        raise NotImplementedError

    async def destroy(self, actor: Actor, reference: str) -> Sandbox:
        """Remove the sandbox and everything in it."""
        raise NotImplementedError

    async def health(self, reference: str) -> SandboxHealth:
        """How each store serves the sandbox now."""
        raise NotImplementedError
