"""The shards of somebody else's bot, whose sessions stay, whoever publishes them."""

from __future__ import annotations

from collections.abc import Mapping

from .lease_types import Before
from .succession import Succession


class HostShards:
    """Runs nothing: publishes what the bot's sessions bring, or keeps it. See `Runs`."""

    def __init__(self, succession: Succession) -> None:
        self._succession = succession
        self._published: set[int] = set()

    @property
    def running(self) -> frozenset[int]:
        """The shards that are published here."""
        return frozenset(self._published)

    def begin(self, shard_id: int, shard_count: int, before: Before | None) -> None:
        """Publish the shard."""
        self._published.add(shard_id)
        self._succession.go_on(shard_id, before)

    async def hand_over(self, shard_id: int) -> bool:
        """A bot's shards are fixed: none of them is one too many."""
        return False

    def lose(self, shard_id: int) -> None:
        """Another process has the shard: publish nothing more of it, and keep what comes."""
        self._succession.give_way(shard_id)

    async def drop(self, shard_id: int) -> None:
        """Another process has the shard; the bot's session stays."""
        self._published.discard(shard_id)

    def stand_by(self, standby: Mapping[int, Before], shard_count: int) -> None:
        """Others publish these: what they have stored is not kept."""
        for shard_id, before in standby.items():
            self._succession.published_elsewhere(shard_id, before)

    def shards_known(self, shard_count: int) -> None:
        """The bot knows its shards by itself."""
