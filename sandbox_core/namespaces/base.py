"""What a store must offer so that a sandbox can live in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from sandbox_core.models import Sandbox, SandboxStatus, short_id
from sandbox_core.subjects import schema_name


class PartState(StrEnum):
    """How one store serves one sandbox."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Reachable, but something of the sandbox is missing or waits to be made again."""
    UNHEALTHY = "unhealthy"
    """The store is away, or what the sandbox needs in it does not exist."""


@dataclass(frozen=True, slots=True)
class PartHealth:
    """What one store says about one sandbox.

    `detail` is one short sentence for a person; `latency_ms` is the time the check took, in
    milliseconds; `facts` are figures such as `keys` or `messages`.
    """

    store: str
    state: PartState
    detail: str
    latency_ms: float
    facts: Mapping[str, int | float | str] = field(default_factory=dict)


IsOrphan = Callable[[], Awaitable[bool]]
"""Asks whether an id belongs to no live sandbox now. Raises `DependencyUnavailable`."""


class Namespace(Protocol):
    """One sandbox's part of one store. Every method raises `DependencyUnavailable` when the store is away."""

    @property
    def store(self) -> str:
        """The store's name as people know it: `PostgreSQL`, `Redis`, `NATS`."""
        ...

    async def provision(self, sandbox: Sandbox) -> None:
        """Make the sandbox's part, all or nothing: when this raises, it has left nothing behind."""
        ...

    async def drop(self, sandbox: Sandbox) -> None:
        """Remove everything of this sandbox and of nobody else. Dropping what is not there is fine.

        Raises `StillWritten` when a worker makes more of it all the time.
        """
        ...

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """How the store serves this sandbox now."""
        ...

    async def list_ids(self) -> set[str]:
        """The ids of what exists in the store under this project's exact naming.

        An id is a whole UUID, or the 8 hex digits of a short id where the store's names hold no more.
        """
        ...

    def always_has(self, sandbox: Sandbox) -> str:
        """What a running sandbox that `list_ids` does not name lacks here; "" when it may have nothing."""
        ...

    def name_of(self, listed_id: str) -> str:
        """What the store calls the part with an id of `list_ids`, such as a schema's name."""
        ...

    async def drop_orphan(self, listed_id: str, is_orphan: IsOrphan) -> bool:
        """Remove the part with an id of `list_ids`; False when it is no orphan by now, or gone."""
        ...


async def drop_orphan(namespace: Namespace, listed_id: str, is_orphan: IsOrphan) -> bool:
    """`Namespace.drop_orphan` of a store that names whole UUIDs.

    A UUID is never given twice: what is without a live sandbox now stays so.
    """
    if not await is_orphan():
        return False
    await namespace.drop(_gone(UUID(listed_id)))
    return True


def _gone(sandbox_id: UUID) -> Sandbox:
    """A sandbox that is no more, as far as a store needs it to remove what bears its id."""
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
