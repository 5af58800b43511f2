"""What the keeper of leases works with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from sandbox_core.sharding.lease_rows import Leases, Predecessor
from sandbox_core.sharding.other_leases import Lease
from sandbox_core.sharding.publishers import Holder


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


class Rows(Protocol):
    """The leases of this process; see `ShardRows`."""

    async def agree(self, recommended: int) -> int: ...

    async def prepare(self, shard_count: int) -> None: ...

    async def share(
        self, shard_count: int, *, may_take_lapsed: bool, taking: bool, orphaned: Collection[Lease] = ()
    ) -> Leases: ...

    async def fix(
        self,
        shard_count: int,
        shard_ids: Collection[int],
        running: Collection[int],
        *,
        may_take_lapsed: bool,
        taking: bool,
        orphaned: Collection[Lease] = (),
    ) -> Leases: ...

    async def release(self, shard_count: int, shard_id: int) -> None: ...

    async def leave(self) -> None: ...


class Runs(Protocol):
    """What runs the shards; see `ShardSet`."""

    @property
    def running(self) -> frozenset[int]: ...

    def begin(self, shard_id: int, shard_count: int, before: Before | None) -> None:
        """Publish the shard from now on; nobody had it when `before` is None."""

    def watch(self, watched: Mapping[int, Before], shard_count: int) -> None:
        """Be ready to go on with these shards, and with no others that are not published here.

        Others publish them from sessions that this process can't resume.
        """

    async def hand_over(self, shard_id: int) -> bool: ...

    def lose(self, shard_id: int) -> None: ...

    async def drop(self, shard_id: int) -> None: ...

    def settled(self, shard_count: int) -> None: ...


class TellsTakeovers(Protocol):
    """Tells earlier holders what was taken from them; see `Takeovers`."""

    async def tell(self, shard_count: int, epochs: Mapping[int, int], *, within: float = 0.0) -> None: ...
