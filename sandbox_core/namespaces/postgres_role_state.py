"""What the sandboxes' database has of a sandbox's role and its guests', and how it must be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import asyncpg

from sandbox_core.guests import guest_role
from sandbox_core.models import Sandbox

STORE = "PostgreSQL"
_DONE = re.compile(
    r"; generation (?P<generation>\d+) of (?P<key>[0-9a-f]*)(?P<full>, full)?"
    r"(?:; since (?P<since>[0-9.]+))?\Z"
)


@dataclass(frozen=True, slots=True)
class RoleLimits:
    """What one sandbox's role may use."""

    connections: int = 20
    statement_timeout: timedelta = timedelta(minutes=1)
    """The default of its sessions. A session can lift it; then the bot ends it, see `end_overdue`."""


@dataclass(frozen=True, slots=True)
class RoleState:
    """A sandbox's role as the server has it."""

    can_login: bool
    usable: bool
    valid_until: float
    generation: int
    key: str
    full: bool
    """Whether its sessions begin as read-only ones."""
    since: str
    """Since when the present login holds; "" when the change was interrupted."""

    @classmethod
    def of(cls, row: asyncpg.Record, limits: RoleLimits) -> RoleState:
        match = _DONE.search(row["note"])
        return cls(
            can_login=row["can_login"],
            usable=row["can_login"] and row["connections"] == limits.connections,
            valid_until=row["valid_until"] or 0.0,
            generation=int(match["generation"]) if match else -1,
            key=match["key"] if match else "",
            full=match is not None and match["full"] is not None,
            since=(match["since"] or "") if match else "",
        )

    def since_of(self, sandbox: Sandbox) -> str:
        """Return since when this sandbox's present login holds; "" when it does not yet."""
        present = (sandbox.generation, sandbox.key_id, sandbox.is_full(STORE))
        return self.since if (self.generation, self.key, self.full) == present else ""

    def unfinished(self) -> RoleState:
        """Return the role without a present login."""
        return replace(self, can_login=False, usable=False, since="")

    def fits(self, sandbox: Sandbox) -> bool:
        """Return whether the role is as it must be."""
        in_time = abs(self.valid_until - sandbox.expires_at.timestamp()) < 1.0
        return self.usable and in_time and bool(self.since_of(sandbox))


def all_fit(sandbox: Sandbox, roles: Mapping[str, RoleState]) -> bool:
    """Return whether these are the sandbox's role and its guests', each as it must be."""
    wanted = {guest_role(sandbox.schema_name, guest) for guest in ("", *sandbox.guests)}
    return roles.keys() == wanted and all(role.fits(sandbox) for role in roles.values())
