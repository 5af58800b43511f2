"""The interface of a store that can hold a sandbox's part."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Sandbox, SandboxStatus, short_id
from sandbox_core.subjects import schema_name
from sandbox_core.templates import Template

from .amounts import Amount, Pace
from .credentials import Credentials


class PartState(StrEnum):
    """The health of a sandbox's part."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """The store answers, but something is missing, or will be created again."""
    UNHEALTHY = "unhealthy"
    """The store is away, or the sandbox's part does not exist."""


@dataclass(frozen=True, slots=True)
class PartHealth:
    """The result of checking one part.

    `detail` is one short sentence for a person; `latency_ms` is the duration of the check in milliseconds;
    `facts` are numbers such as `keys` or `messages`.
    """

    store: str
    state: PartState
    detail: str
    latency_ms: float
    facts: Mapping[str, int | float | str] = field(default_factory=dict)
    fault: DependencyUnavailable | None = field(default=None, compare=False)
    """Why the check itself failed, when it did because of the store."""


IsOrphan = Callable[[], Awaitable[bool]]
"""Returns whether an id belongs to no live sandbox now. Raises `DependencyUnavailable`."""


class Namespace(Protocol):
    """The sandboxes' parts in one store. Every method raises `DependencyUnavailable` when it is away."""

    @property
    def store(self) -> str:
        """The store's name for people: `PostgreSQL`, `Redis`, `NATS`."""
        ...

    @property
    def credentials(self) -> Credentials | None:
        """The logins of new sandboxes here; None where sandboxes keep apart by convention."""
        ...

    async def provision(self, sandbox: Sandbox) -> None:
        """Create the sandbox's part. When this raises, it leaves nothing behind."""
        ...

    async def drop(self, sandbox: Sandbox) -> None:
        """Remove the sandbox's part and nothing else; a missing part is no error.

        Raises `StillWritten` when a worker writes new data all the time.
        """
        ...

    async def fill(self, sandbox: Sandbox, template: Template) -> None:
        """Run the template in the part that `provision` has just made; only PostgreSQL takes one.

        Raises `DoesNotFit` for what the template may not do, or what the server refuses in it.
        """
        ...

    async def renew(self, sandbox: Sandbox, template: Template | None) -> None:
        """Make the part as `provision` and `fill` made it, without what it stores.

        Its login stays valid, or is gone afterwards: the caller has it made again, see `Credentials`.

        A template that does not fit leaves the part as it is. What else fails may leave it half made, which
        a repetition finishes. Raises `StillWritten` when a worker writes new data all the time.
        """
        ...

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check the sandbox's part now."""
        ...

    async def measure(self, sandboxes: Sequence[Sandbox], pace: Pace) -> Mapping[UUID, Amount]:
        """Return what these sandboxes store; nothing of them where the server itself limits that."""
        ...

    async def list_ids(self) -> set[str]:
        """Return the ids of all parts in the store with an exact name of this project.

        An id is a whole UUID, or the 8 hex digits of a short id when the store's names contain no more.
        """
        ...

    async def list_whole(self) -> set[str]:
        """Return the ids of parts that have what a running sandbox always has here, of the same kind."""
        ...

    def always_has(self, sandbox: Sandbox) -> str:
        """Return what a running sandbox must have here, as text; "" when its part may be empty."""
        ...

    def name_of(self, listed_id: str) -> str:
        """Return the store's name for the part with an id of `list_ids`, such as a schema's name."""
        ...

    async def drop_orphan(self, listed_id: str, is_orphan: IsOrphan) -> bool:
        """Remove the part with an id of `list_ids`. Return False when it is no orphan now, or gone."""
        ...


async def drop_orphan(namespace: Namespace, listed_id: str, is_orphan: IsOrphan) -> bool:
    """Do `Namespace.drop_orphan` for a store with whole UUIDs in its names.

    A UUID is never used twice: an orphan stays an orphan.
    """
    if not await is_orphan():
        return False
    await namespace.drop(_gone(UUID(listed_id)))
    return True


def _gone(sandbox_id: UUID) -> Sandbox:
    """Return a placeholder for a destroyed sandbox, enough for a store to remove the part with its id."""
    never = datetime.fromtimestamp(0, UTC)
    return Sandbox(
        id=sandbox_id,
        name="",
        owner="",
        status=SandboxStatus.DESTROYED,
        schema_name=schema_name(short_id(sandbox_id)),
        created_at=never,
        expires_at=never,
    )
