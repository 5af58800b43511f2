"""The results of cleanup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox_core.models import Sandbox
from sandbox_core.postgres.cleanup import Failure

MAPPINGS = "mappings"
"""The store's name for orphaned guild mappings, in addition to the namespaces' stores."""

RECORDINGS = "recordings"
"""The same for recordings that nobody knows; they belong to no sandbox."""


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """The result of one pass over the due sandboxes."""

    destroyed: tuple[Sandbox, ...] = ()
    failed: tuple[Failure, ...] = ()
    """Removals that failed; each is tried again at its `next_attempt_at`."""
    left_to_others: int = 0
    """The number of sandboxes that another process was removing."""

    @property
    def result(self) -> str:
        """`ok`, `partial` when some failed, `failed` when all did."""
        if not self.failed:
            return "ok"
        return "partial" if self.destroyed else "failed"


@dataclass(frozen=True, slots=True)
class Orphan:
    """A resource with an exact name of this project that belongs to no live sandbox."""

    store: str
    """`PostgreSQL`, `Redis`, `NATS`, `mappings` or `recordings`."""
    id: str
    """A sandbox's id, a short id (PostgreSQL), a guild's id (mappings), or a recording's."""
    name: str
    """Its name in the store, such as a schema's name or a key pattern."""
    known: bool
    """Whether this database has a destroyed sandbox with the id.

    If not, the orphan may belong to another installation on the same server.
    """


@dataclass(frozen=True, slots=True)
class Damage:
    """A running sandbox that lacks something."""

    sandbox: Sandbox
    missing: str
    """What is missing, as text for a person."""


@dataclass(frozen=True, slots=True)
class OrphanReport:
    """The result of a search. `unreadable` has the stores that were away, with the reason."""

    orphans: tuple[Orphan, ...] = ()
    degraded: tuple[Damage, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def count(self, store: str) -> int:
        """Return the number of orphans in one store."""
        return sum(orphan.store == store for orphan in self.orphans)


@dataclass(frozen=True, slots=True)
class OrphanCleanup:
    """The result of a removal of orphans."""

    removed: tuple[Orphan, ...] = ()
    spared: tuple[Orphan, ...] = ()
    """Orphans that were not removed: a live sandbox has them now, or they are unknown here."""
    failed: Mapping[Orphan, str] = field(default_factory=dict)
    """Orphans whose removal failed, each with the reason."""
    found: OrphanReport = field(default_factory=OrphanReport)
