"""Who may connect: a running sandbox, as the control plane knows it, or production."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sandbox_core.client_endpoint import PRODUCTION
from sandbox_core.models import RestLevel


class TablesStale(Exception):
    """The control plane has not answered for too long to say who may connect."""


class GuildIds(Protocol):
    """The servers of a sandbox, or of production."""

    def __contains__(self, guild_id: object, /) -> bool: ...

    def __sub__(self, others: Any, /) -> frozenset[str]:
        """Return those that are not among `others`, which is of the same kind."""
        ...


@dataclass(frozen=True, slots=True)
class AllBut:
    """Every server that no sandbox has. Nobody here knows which there are, so they can't be counted."""

    excluded: frozenset[str]

    def __contains__(self, guild_id: object, /) -> bool:
        return guild_id not in self.excluded

    def __sub__(self, others: AllBut, /) -> frozenset[str]:
        return others.excluded - self.excluded


class Holder(Protocol):
    """Whose clients' sessions are: a sandbox, or production."""

    @property
    def sandbox_id(self) -> UUID: ...

    @property
    def credentials(self) -> int: ...

    @property
    def guild_ids(self) -> GuildIds: ...


@dataclass(frozen=True, slots=True)
class Production:
    """Production, while a token for its own unmodified bot is valid."""

    credentials: int
    """The number of its present token."""
    guild_ids: AllBut
    sandbox_id: UUID = PRODUCTION


@dataclass(frozen=True, slots=True)
class Tenant:
    """A running sandbox whose bots connect here."""

    sandbox_id: UUID
    name: str
    owner: str
    """Discord user id, as text."""
    credentials: int
    """The number of its present credentials; 0 when it keeps apart by convention."""
    level: RestLevel
    guild_ids: frozenset[str]
    expires_at: datetime
    guests: frozenset[str] = frozenset()
    """The logins of the colleagues who may work in it."""
    guest: str = ""
    """Whose of them has shown a token; "" for the sandbox's own, and where nobody has shown one."""


class Tenants(Protocol):
    """The running sandboxes, and production."""

    async def by_token(self, token: str) -> Tenant | Production | None:
        """Return whose token this is; None when it is no running sandbox's present one, nor production's.

        Raises `TablesStale`. Production's is believed as it was last known: nobody waits for a token that
        can't be revoked now.
        """
        ...

    def current(self, sandbox_id: UUID) -> Tenant | None:
        """Return what is known now of the sandbox, without I/O; None when it has ended or is not known."""
        ...

    @property
    def production(self) -> Production | None:
        """Production as it is known now; None while no token for it is valid."""
        ...


def present(tenants: Tenants, sandbox_id: UUID) -> Tenant | Production | None:
    """Return what is known now of this sandbox, or of production."""
    return tenants.production if sandbox_id == PRODUCTION else tenants.current(sandbox_id)
