"""What a store must offer so that a sandbox can live in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from sandbox_core.models import Sandbox


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


def counted(number: int, one: str, several: str) -> str:
    """`1 key`, `2 keys`."""
    return f"{number} {one if number == 1 else several}"


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
