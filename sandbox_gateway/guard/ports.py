"""What the guard needs of the rest of this package."""

from __future__ import annotations

from typing import Literal, Protocol
from uuid import UUID

from sandbox_gateway.tenants import Holder, Tenant, Tenants

SeenKind = Literal["interaction", "webhook"]


class KnownTenants(Tenants, Protocol):
    """The running sandboxes, also for calls without a sandbox's token."""

    @property
    def stale(self) -> bool:
        """True when the control plane has not answered for too long."""
        ...

    def by_guild(self, guild_id: str) -> Tenant | None:
        """Return the running sandbox that has the guild, without I/O; None when none has it."""
        ...


class Seen(Protocol):
    """The tokens that sandboxes' events had; the same for every process.

    Raises `DependencyUnavailable` when Redis is away.
    """

    async def note(
        self, tenant: Holder, kind: SeenKind, entity_id: str, token: str, *, guild_id: str | None = None
    ) -> None:
        """Note the token before its event is sent to the client.

        With `guild_id` the token is of use only while the sandbox has that guild.
        """
        ...

    async def has(self, tenant: Tenant, kind: SeenKind, entity_id: str | None, token: str) -> bool:
        """Return whether the sandbox's events had this token, with this id."""
        ...

    async def whose(self, kind: SeenKind, entity_id: str | None, token: str) -> UUID | None:
        """Return the sandbox whose events had this token, with this id."""
        ...
