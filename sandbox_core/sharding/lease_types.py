"""What the keeper of leases works with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
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
class FoundShard:
    """What one turn found of one shard: it is held by this process, by another one, or wanted here."""

    epoch: int = 0
    """Of this process's lease, renewed or taken now; 0 without one."""
    stale_epoch: int = 0
    """Sessions saved under this epoch or an earlier one are not to be resumed."""
    is_taken_over: bool = False
    """Taken now from another process whose lease had lapsed."""
    after: Predecessor | None = None
    """Who had it before it was taken now."""
    held_by: Holder | None = None
    """The other process that has it."""
    is_others: bool = False
    """That process's lease has not lapsed."""
    waits_for: Holder | None = None
    """Wanted here: the process that has it, or whose shards of another number overlap it."""
    standby: Predecessor | None = None
    """Wanted here, and this process can't resume the session of that process."""
    orphaned: Lease | None = None
    """Wanted here: the lease of a holder whose session is over, lapsed or not."""


_UNKNOWN = FoundShard()


@dataclass(frozen=True, slots=True)
class Leases:
    """What one turn found, by shard number."""

    shards: Mapping[int, FoundShard]
    share: int
    """How many shards this process should hold."""
    superseded: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    """By another number of shards: those whose lapsed leases ended now, each with its new epoch."""

    def of(self, shard_id: int) -> FoundShard:
        """What was found of this shard."""
        return self.shards.get(shard_id, _UNKNOWN)

    @property
    def mine(self) -> dict[int, int]:
        """This process's shards, each with its epoch."""
        return {shard_id: shard.epoch for shard_id, shard in self.shards.items() if shard.epoch}

    @property
    def others(self) -> frozenset[int]:
        """Those of other processes whose leases have not lapsed."""
        return frozenset(shard_id for shard_id, shard in self.shards.items() if shard.is_others)

    @property
    def others_of(self) -> dict[int, Holder]:
        """Those that are wanted here, with who has them."""
        return {shard_id: shard.waits_for for shard_id, shard in self.shards.items() if shard.waits_for}

    @property
    def held_by(self) -> dict[int, Holder]:
        """All that others hold."""
        return {shard_id: shard.held_by for shard_id, shard in self.shards.items() if shard.held_by}

    @property
    def standby(self) -> dict[int, Predecessor]:
        """Those for which this process stands by."""
        return {shard_id: shard.standby for shard_id, shard in self.shards.items() if shard.standby}

    @property
    def orphaned(self) -> frozenset[Lease]:
        """The leases that may be taken before they lapse."""
        return frozenset(shard.orphaned for shard in self.shards.values() if shard.orphaned)

    def without(self, taken: Collection[int]) -> Leases:
        """The same without this process's leases on shards that others took."""
        lost = {shard_id: replace(self.of(shard_id), epoch=0) for shard_id in taken}
        return replace(self, shards={**self.shards, **lost})


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
