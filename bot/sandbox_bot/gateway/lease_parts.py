"""What the keeper of leases works with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from sandbox_core.postgres.shards import Leases


class Rows(Protocol):
    """The leases of this process; see `ShardRows`."""

    async def agree(self, recommended: int) -> int: ...

    async def prepare(self, shard_count: int) -> None: ...

    async def share(self, shard_count: int, *, may_take_lapsed: bool, taking: bool) -> Leases: ...

    async def fix(
        self,
        shard_count: int,
        shard_ids: Collection[int],
        running: Collection[int],
        *,
        may_take_lapsed: bool,
        taking: bool,
    ) -> Leases: ...

    async def release(self, shard_count: int, shard_id: int) -> None: ...

    async def leave(self) -> None: ...


class Runs(Protocol):
    """What runs the shards; see `ShardSet`."""

    @property
    def running(self) -> frozenset[int]: ...

    def begin(self, shard_id: int, shard_count: int) -> None: ...

    async def hand_over(self, shard_id: int) -> bool: ...

    def lose(self, shard_id: int) -> None: ...

    async def drop(self, shard_id: int) -> None: ...

    def settled(self, shard_count: int) -> None: ...


class TellsTakeovers(Protocol):
    """Tells earlier holders what was taken from them; see `Takeovers`."""

    async def tell(self, shard_count: int, epochs: Mapping[int, int], *, within: float = 0.0) -> None: ...
