"""The interface of a store that gives each sandbox a login of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol
from uuid import UUID

from sandbox_core.models import Sandbox

WILL_BE_MADE = "is missing or outdated, and will be made again"
"""What the health of a part says about a login that `lacking` names."""


class Credentials(Protocol):
    """The sandboxes' own logins to one store. Methods that ask it raise `DependencyUnavailable`.

    A namespace with credentials makes them in `provision` and removes them in `drop`; its `list_ids` has also
    the ids that only a login is left of.

    Each colleague in `Sandbox.guests` has logins of their own, which can do the same. Whatever is said of
    a sandbox's login is meant of theirs, too; those of others are not valid.
    """

    async def require(self) -> None:
        """Raise `IsolationImpossible` when this server can't keep sandboxes apart."""
        ...

    async def make(self, sandbox: Sandbox) -> None:
        """Make the logins of the sandbox's present generation, until its expiry, the only valid ones.

        They may exist already. Sessions stay but for those of guests who are no more; see `cut`. Where they
        were made with another key, they stay as they are, until the expiry.
        """
        ...

    async def cut(self, sandbox: Sandbox) -> None:
        """End every connection with an older login than the present one."""
        ...

    async def revoke(self, sandbox: Sandbox) -> None:
        """Refuse every login of the sandbox, and end every connection; a missing login is no error."""
        ...

    async def lacking(self, sandboxes: Collection[Sandbox]) -> set[UUID]:
        """Return which of these running sandboxes have no login, or not their present one."""
        ...

    def variables(self, sandbox: Sandbox, guest: str = "") -> Mapping[str, str]:
        """Return the variables for the sandbox's worker with its password, or with this guest's."""
        ...
