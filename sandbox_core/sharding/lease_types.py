"""What the keeper of leases works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .other_leases import Lease
from .publishers import Holder


@dataclass(frozen=True, slots=True)
class Predecessor:
    """Who publishes a shard, or published it, before this process does."""

    settled_ago: float | None
    """Every event from before so many seconds ago is stored; None when nobody said so."""
    holder: Holder | None = None
    """The process that has the shard; None when it has none any more."""
    renewed_ago: float | None = None
    """How many seconds ago the holder renewed its lease."""


@dataclass(frozen=True, slots=True)
class Leases:
    """What one turn found, by shard number."""

    mine: Mapping[int, int]
    """Held by this process, renewed or taken now; each with its epoch."""
    others: frozenset[int]
    """Held by other processes whose leases have not lapsed."""
    share: int
    """How many shards this process should hold."""
    taken_over: frozenset[int] = frozenset()
    """Of `mine`, those taken now from another process whose lease had lapsed."""
    stale: Mapping[int, int] = field(default_factory=dict)
    """Of `mine`: sessions saved under this epoch or an earlier one are not to be resumed."""
    after: Mapping[int, Predecessor] = field(default_factory=dict)
    """Of `mine`, those taken now which somebody had before."""
    standby: Mapping[int, Predecessor] = field(default_factory=dict)
    """Wanted here and held by others whose sessions this process can't resume."""
    others_of: Mapping[int, Holder] = field(default_factory=dict)
    """Wanted here and held by others, whichever."""
    held_by: Mapping[int, Holder] = field(default_factory=dict)
    """All that others hold."""
    orphaned: frozenset[Lease] = frozenset()
    """Of those wanted here and held by others, the leases whose holder's session is over, lapsed or not."""
    superseded: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    """By another number of shards: those whose lapsed leases ended now, each with its new epoch."""


@dataclass(frozen=True, slots=True)
class Before:
    """Who publishes a shard, or published it, before this process does."""

    settled_at: float | None
    """Everything that happened before is stored; on the monotonic clock, in seconds. None: not known."""
    holder: Holder | None = None
    renewed_at: float | None = None
    """When the holder renewed its lease; on the monotonic clock, in seconds."""

    @classmethod
    def of(cls, predecessor: Predecessor, asked_at: float) -> Before:
        """What was found by a question that was asked at that moment."""
        settled_ago, renewed_ago = predecessor.settled_ago, predecessor.renewed_ago
        return cls(
            None if settled_ago is None else asked_at - settled_ago,
            predecessor.holder,
            None if renewed_ago is None else asked_at - renewed_ago,
        )


class Runs(Protocol):
    """What runs the shards; see `ShardSet`."""

    @property
    def running(self) -> frozenset[int]: ...

    def begin(self, shard_id: int, shard_count: int, before: Before | None) -> None:
        """Publish the shard from now on; nobody had it when `before` is None."""

    def stand_by(self, standby: Mapping[int, Before], shard_count: int) -> None:
        """Be ready to go on with these shards, and with no others that are not published here.

        Others publish them from sessions that this process can't resume.
        """

    async def hand_over(self, shard_id: int) -> bool: ...

    def lose(self, shard_id: int) -> None: ...

    async def drop(self, shard_id: int) -> None: ...

    def shards_known(self, shard_count: int) -> None: ...


class TellsTakeovers(Protocol):
    """Tells earlier holders what was taken from them; see `Takeovers`."""

    async def tell(self, shard_count: int, epochs: Mapping[int, int], *, within: float = 0.0) -> None: ...
