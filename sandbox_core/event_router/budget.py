"""What sandboxes' events may take while they wait for their stream, and what was dropped of them.

A sandbox whose stream refuses must cost nobody but itself: so its events do not count towards the limit at
which the bot stops reading from the gateway. They have a budget for each sandbox and one for all together.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from sandbox_core.metrics import Drop
from sandbox_core.nats.publication import Publication
from sandbox_core.settings import Settings

from .lane import Event

_log = structlog.get_logger("sandbox.router")

_MB = 1024 * 1024
_LOOK_SECONDS = 1.0
_QUIET = 10.0
"""Seconds after the last drop at which an episode is over, when an event was stored since."""
_FORGOTTEN = 600.0
"""The same, when none was."""


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """The most that may wait: of one sandbox, and of all together."""

    events: int = 10_000
    size: int = 32 * _MB
    """In bytes."""
    all_events: int = 40_000
    all_size: int = 128 * _MB

    @classmethod
    def of(cls, settings: Settings) -> BudgetLimits:
        """Those of these settings."""
        return cls(
            settings.sandbox_max_pending,
            settings.sandbox_max_pending_mb * _MB,
            settings.sandbox_max_pending_all,
            settings.sandbox_max_pending_all_mb * _MB,
        )


class Dropped(NamedTuple):
    """How many events of a sandbox were dropped, the first of them at `since` (seconds since the epoch)."""

    events: int
    since: float


class _Episode:
    """From a sandbox's first dropped event until it loses none any more."""

    __slots__ = ("last_at", "reasons", "stored_since")

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.last_at = 0.0
        self.stored_since = False


class SandboxBudget:
    """One sandbox's events that wait, the oldest first."""

    __slots__ = ("events", "sandbox_id", "size")

    def __init__(self, sandbox_id: str) -> None:
        self.sandbox_id = sandbox_id
        self.events: dict[Event, Publication | None] = {}
        """With its publication, when that was asked for."""
        self.size = 0
        """Bytes of frames."""


class SandboxBudgets:
    """All sandboxes' budgets. `now` is in seconds since the epoch, `monotonic` in seconds."""

    def __init__(
        self,
        limits: BudgetLimits,
        dropped: dict[Drop, int],
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`dropped` is the metrics' count by reason."""
        self._limits = limits
        self._dropped = dropped
        self._now = now
        self._monotonic = monotonic
        self._by_id: dict[str, SandboxBudget] = {}
        """Those in use; one that is not goes with the next `look`."""
        self.episodes: dict[str, _Episode] = {}
        """By the sandbox that loses events at present."""
        self._untold: dict[str, Dropped] = {}
        self.surely = min(limits.events, limits.all_events)
        """While no more events than these wait, nothing is used up; the same in bytes:"""
        self.surely_bytes = min(limits.size, limits.all_size)
        self.count = 0
        """Events of all sandboxes that wait."""
        self.size = 0
        """Their bytes."""

    def add(self, sandbox_id: str, event: Event) -> SandboxBudget:
        """Charge the sandbox with an event that none is charged with."""
        budget = self._by_id.get(sandbox_id)
        if budget is None:
            budget = self._by_id[sandbox_id] = SandboxBudget(sandbox_id)
        size = len(event.frame.raw)
        budget.size += size
        self.size += size
        self.count += 1
        event.borne_by = sandbox_id
        event.charged = True
        budget.events[event] = None
        return budget

    def of(self, sandbox_id: str) -> SandboxBudget:
        """The budget of a sandbox that has something here."""
        return self._by_id[sandbox_id]

    def published(self, event: Event, publication: Publication) -> None:
        """A charged event was given to the publisher. To be told only while events are lost."""
        self._by_id[event.borne_by].events[event] = publication

    def remove(self, event: Event) -> Publication | None:
        """Charge the sandbox with the event no more; returns its publication."""
        budget = self._by_id[event.borne_by]
        event.charged = False
        size = len(event.frame.raw)
        budget.size -= size
        self.size -= size
        self.count -= 1
        return budget.events.pop(event)

    def stored(self, event: Event) -> None:
        """A charged event is acknowledged."""
        if self.episodes:
            self.goes_on(event.borne_by)
        # As in `remove`, and not shared with it: every one would pay for the call.
        budget = self._by_id[event.borne_by]
        event.charged = False
        size = len(event.frame.raw)
        budget.size -= size
        self.size -= size
        self.count -= 1
        del budget.events[event]

    def goes_on(self, sandbox_id: str) -> None:
        """An event of the sandbox is acknowledged, after some were lost."""
        episode = self.episodes.get(sandbox_id)
        if episode is not None:
            episode.stored_since = True

    def overdrawn(self, budget: SandboxBudget) -> SandboxBudget | None:
        """The budget that has to give something up after this one has grown; None when all is well.

        When all together are too many, it is the largest one.
        """
        limits = self._limits
        if len(budget.events) > limits.events or budget.size > limits.size:
            return budget
        if self.count > limits.all_events:
            return max(self._by_id.values(), key=lambda each: len(each.events))
        if self.size > limits.all_size:
            return max(self._by_id.values(), key=lambda each: each.size)
        return None

    def drop(self, event: Event, reason: Drop) -> Publication | None:
        """The sandbox loses a charged event; returns its publication."""
        sandbox_id = event.borne_by
        budget = self._by_id[sandbox_id]
        if not isinstance(budget.events, OrderedDict):
            # To begin at the front of a plain one takes the longer, the more have gone from there.
            budget.events = OrderedDict(budget.events)
        episode = self.episodes.get(sandbox_id)
        if episode is None:
            episode = self.episodes[sandbox_id] = _Episode()
            _log.warning("sandbox_events_dropping", sandbox_id=sandbox_id, reason=reason)
        episode.reasons[reason] += 1
        episode.last_at = self._monotonic()
        episode.stored_since = False
        self._dropped[reason] += 1
        events, since = self._untold.get(sandbox_id, Dropped(0, self._now()))
        self._untold[sandbox_id] = Dropped(events + 1, since)
        return self.remove(event)

    # Telling

    async def run(self) -> None:
        """End episodes until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """End the episodes that are over, and forget who has nothing here."""
        now = self._monotonic()
        for sandbox_id, episode in list(self.episodes.items()):
            quiet = now - episode.last_at
            if quiet >= _FORGOTTEN or (quiet >= _QUIET and episode.stored_since):
                _log.info(
                    "sandbox_events_dropping_over",
                    sandbox_id=sandbox_id,
                    dropped=episode.reasons.total(),
                    reasons=dict(episode.reasons),
                )
                del self.episodes[sandbox_id]
        for budget in [each for each in self._by_id.values() if not each.events]:
            del self._by_id[budget.sandbox_id]

    @property
    def losing(self) -> int:
        """How many sandboxes lose events at present."""
        return len(self.episodes)

    def drain_dropped(self) -> Mapping[str, Dropped]:
        """What each sandbox has lost since the last call."""
        untold, self._untold = self._untold, {}
        return untold
