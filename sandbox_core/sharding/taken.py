"""What one turn takes, and whether the database has kept it when its answer to the COMMIT is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from .lease_types import FoundShard, Predecessor

_REMEMBERED = 60.0


class Taken(NamedTuple):
    """Shards that were taken, by their number."""

    shards: Mapping[int, FoundShard] = {}
    superseded: Mapping[int, Mapping[int, int]] = {}
    """By another number of shards: those whose leases ended, each with its new epoch."""

    def __or__(self, other: Taken) -> Taken:
        """Both together; what `other` says of a shard counts."""
        return Taken({**self.shards, **other.shards}, {**self.superseded, **other.superseded})

    @property
    def epochs(self) -> set[tuple[int, int]]:
        """Each shard with its epoch."""
        return {(shard_id, shard.epoch) for shard_id, shard in self.shards.items()}

    def kept(self, mine: Mapping[int, FoundShard], seconds_ago: float) -> Taken:
        """Of what was taken so long ago, what is held now under the same epoch: only that was committed."""
        kept = {
            shard_id: replace(shard, after=_older(shard.after, seconds_ago))
            for shard_id, shard in self.shards.items()
            if shard_id in mine and mine[shard_id].epoch == shard.epoch
        }
        return Taken(kept, self.superseded) if kept else Taken()


class Unconfirmed:
    """What was taken by turns whose COMMIT may have happened; `monotonic` is in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._turns: list[tuple[float, Taken]] = []
        self._settled: list[tuple[float, Taken]] = []
        """Those of which the turn under way tells, or which it is."""

    def turn_begins(self) -> float:
        """Return the moment from which on a turn's answers are true."""
        self._settled = []
        return self._monotonic()

    def kept(self, mine: Mapping[int, FoundShard], asked_at: float) -> Taken:
        """Return what the database has kept of it, told as of `asked_at`."""
        found = Taken()
        for turn in self._turns:
            kept = turn[1].kept(mine, asked_at - turn[0])
            if kept.shards:
                self._settled.append(turn)
            found |= kept
        return found

    def commits(self, asked_at: float, taken: Taken) -> None:
        """The turn that was asked then is about to commit."""
        if taken.shards:
            turn = (asked_at, taken)
            self._turns.append(turn)
            self._settled.append(turn)

    def confirmed(self) -> None:
        """The turn under way was committed."""
        # A server that hangs may commit an earlier one later on. One that was rolled back has an epoch that
        # the next change of holder gets again.
        oldest = self._monotonic() - _REMEMBERED
        settled = {held for _, taken in self._settled for held in taken.epochs}
        self._turns = [
            (asked_at, taken)
            for asked_at, taken in self._turns
            if asked_at >= oldest and settled.isdisjoint(taken.epochs)
        ]


def _older(before: Predecessor | None, seconds: float) -> Predecessor | None:
    if before is None or before.settled_ago is None:
        return before
    return Predecessor(before.settled_ago + seconds, before.holder, before.renewed_ago)
