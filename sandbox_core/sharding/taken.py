"""What one turn takes, and whether the database has kept it when its answer to the COMMIT is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .lease_types import Predecessor

_REMEMBERED = 60.0


class Taken(NamedTuple):
    """Shards that were taken, by their number."""

    epochs: Mapping[int, int] = {}
    stale: Mapping[int, int] = {}
    over: frozenset[int] = frozenset()
    """Those that another process had."""
    after: Mapping[int, Predecessor] = {}
    superseded: Mapping[int, Mapping[int, int]] = {}
    """By another number of shards: those whose leases ended, each with its new epoch."""

    def __or__(self, other: Taken) -> Taken:
        """Both together; what `other` says of a shard counts."""
        return Taken(
            {**self.epochs, **other.epochs},
            {**self.stale, **other.stale},
            self.over | other.over,
            {**self.after, **other.after},
            {**self.superseded, **other.superseded},
        )

    def kept(self, mine: Mapping[int, int], seconds_ago: float) -> Taken:
        """Of what was taken so long ago, what is held now under the same epoch: only that was committed."""
        kept = {shard_id for shard_id, epoch in self.epochs.items() if mine.get(shard_id) == epoch}
        if not kept:
            return Taken()
        return Taken(
            {shard_id: self.epochs[shard_id] for shard_id in kept},
            {shard_id: self.stale[shard_id] for shard_id in kept},
            self.over & kept,
            {n: _older(before, seconds_ago) for n, before in self.after.items() if n in kept},
            self.superseded,
        )


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

    def kept(self, mine: Mapping[int, int], asked_at: float) -> Taken:
        """Return what the database has kept of it, told as of `asked_at`."""
        found = Taken()
        for turn in self._turns:
            kept = turn[1].kept(mine, asked_at - turn[0])
            if kept.epochs:
                self._settled.append(turn)
            found |= kept
        return found

    def commits(self, asked_at: float, taken: Taken) -> None:
        """The turn that was asked then is about to commit."""
        if taken.epochs:
            turn = (asked_at, taken)
            self._turns.append(turn)
            self._settled.append(turn)

    def confirmed(self) -> None:
        """The turn under way was committed."""
        # A server that hangs may commit an earlier one later on. One that was rolled back has an epoch that
        # the next change of holder gets again.
        oldest = self._monotonic() - _REMEMBERED
        settled = {held for _, taken in self._settled for held in taken.epochs.items()}
        self._turns = [
            (asked_at, taken)
            for asked_at, taken in self._turns
            if asked_at >= oldest and settled.isdisjoint(taken.epochs.items())
        ]


def _older(before: Predecessor, seconds: float) -> Predecessor:
    if before.settled_ago is None:
        return before
    return Predecessor(before.settled_ago + seconds, before.holder, before.renewed_ago)
