"""What cleaning up found and did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox_core.models import Sandbox
from sandbox_core.postgres.cleanup import Failure

MAPPINGS = "mappings"
"""The store of orphaned guild mappings, beside the names of the namespaces' stores."""


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """One pass over the sandboxes that were due."""

    destroyed: tuple[Sandbox, ...] = ()
    failed: tuple[Failure, ...] = ()
    """Those that could not be removed now; each is tried again at its `next_attempt_at`."""
    left_to_others: int = 0
    """Sandboxes that somebody else was removing at the time."""

    @property
    def result(self) -> str:
        """`ok`, `partial` when some failed, `failed` when all did."""
        if not self.failed:
            return "ok"
        return "partial" if self.destroyed else "failed"


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something under this project's exact naming that belongs to no live sandbox."""

    store: str
    """`PostgreSQL`, `Redis`, `NATS` or `mappings`."""
    id: str
    """A sandbox's id, a short id (PostgreSQL), or a guild's id (mappings)."""
    name: str
    """What it is called in its store, such as a schema's name or a key pattern."""
    known: bool
    """True when this database has a destroyed sandbox of that id.

    False may also mean that another installation uses the same server.
    """


@dataclass(frozen=True, slots=True)
class Damage:
    """A running sandbox that lacks something it should have."""

    sandbox: Sandbox
    missing: str
    """What is missing, as a person reads it."""


@dataclass(frozen=True, slots=True)
class OrphanReport:
    """What a search found. A store that was away is in `unreadable` with the reason."""

    orphans: tuple[Orphan, ...] = ()
    degraded: tuple[Damage, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def count(self, store: str) -> int:
        """Orphans of one store."""
        return sum(orphan.store == store for orphan in self.orphans)


@dataclass(frozen=True, slots=True)
class OrphanCleanup:
    """What a removal of orphans did."""

    removed: tuple[Orphan, ...] = ()
    spared: tuple[Orphan, ...] = ()
    """Left alone: they belong to a live sandbox by now, or were not to be touched."""
    failed: Mapping[Orphan, str] = field(default_factory=dict)
    """Not removed, each with the reason."""
    found: OrphanReport = field(default_factory=OrphanReport)
