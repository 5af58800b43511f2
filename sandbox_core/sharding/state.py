"""What other processes publish in place of this one, for whoever shows it or must not answer twice."""

from __future__ import annotations

from sandbox_core.models import shard_of

from .leases import LeaseKeeper
from .publishers import Holder


class PublishingState:
    """Asks who keeps the leases; without one this process stands by for nobody."""

    def __init__(self) -> None:
        self._shard_count = 1
        self._leases: LeaseKeeper | None = None

    def begin(self, shard_count: int, leases: LeaseKeeper) -> None:
        """Leases are kept from now on."""
        self._shard_count, self._leases = shard_count, leases

    def end(self) -> None:
        """No leases are kept any more."""
        self._leases = None

    def is_answered_elsewhere(self, guild_id: int | None) -> bool:
        """True when another process publishes a guild's events, and so answers its commands.

        Both get them.
        """
        shard_id = shard_of(guild_id, self._shard_count)
        return self._leases is not None and shard_id in self._leases.waits_for

    @property
    def standing_by(self) -> str:
        """Whom this process stands by for, in words; "" when it does for nobody."""
        waits_for = {} if self._leases is None else self._leases.stands_by_for
        if not waits_for:
            return ""
        by_holder: dict[str, list[int]] = {}
        for shard_id, holder in sorted(waits_for.items()):
            shards = f"{holder}{self._counted(holder)}"
            by_holder.setdefault(shards, []).append(shard_id)
        said = [f"{_shards(shard_ids)} published by {who}" for who, shard_ids in by_holder.items()]
        return f"standing by: {'; '.join(said)}"

    def _counted(self, holder: Holder) -> str:
        if holder.shard_count == self._shard_count:
            return ""
        return f" (shards in all: {holder.shard_count} there, {self._shard_count} here)"


def _shards(shard_ids: list[int]) -> str:
    numbers = ", ".join(map(str, shard_ids))
    return f"shard {numbers} is" if len(shard_ids) == 1 else f"shards {numbers} are"
