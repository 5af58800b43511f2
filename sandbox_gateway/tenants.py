"""Who may connect: a running sandbox, as the control plane knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sandbox_core.models import RestLevel


class TablesStale(Exception):
    """The control plane has not answered for too long to say who may connect."""


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


class Tenants(Protocol):
    """The running sandboxes."""

    async def by_token(self, token: str) -> Tenant | None:
        """Return whose token this is; None when it is no running sandbox's present one.

        Raises `TablesStale`.
        """
        ...

    def current(self, sandbox_id: UUID) -> Tenant | None:
        """Return what is known now of the sandbox, without I/O; None when it has ended or is not known."""
        ...
