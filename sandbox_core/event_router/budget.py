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
    """One sandbox's events that are taken and not done, the oldest first."""

    __slots__ = ("episode", "events", "sandbox_id", "size")

    def __init__(self, sandbox_id: str) -> None:
        self.sandbox_id = sandbox_id
        self.events: OrderedDict[Event, Publication | None] = OrderedDict()
        """With its publication, when the event was given to the publisher."""
        self.size = 0
        """Bytes of frames."""
        self.episode: _Episode | None = None


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
        self._budgets: dict[str, SandboxBudget] = {}
        self._untold: dict[str, Dropped] = {}
        self.count = 0
        """Events of all sandboxes that wait."""
        self.size = 0
        """Their bytes."""

    def add(self, sandbox_id: str, event: Event, publication: Publication | None = None) -> SandboxBudget:
        """Charge the sandbox with the event, or note that a charged one was published."""
        budget = self._budgets.get(sandbox_id)
        if budget is None:
            budget = self._budgets[sandbox_id] = SandboxBudget(sandbox_id)
        if event not in budget.events:
            size = len(event.frame.raw)
            budget.size += size
            self.size += size
            self.count += 1
            event.charged = sandbox_id
        budget.events[event] = publication
        return budget

    def remove(self, event: Event) -> Publication | None:
        """The event is done, or turns out not to be the sandbox's; returns its publication."""
        budget = self._budgets[event.charged]
        event.charged = ""
        size = len(event.frame.raw)
        budget.size -= size
        self.size -= size
        self.count -= 1
        publication = budget.events.pop(event)
        if not budget.events and budget.episode is None:
            del self._budgets[budget.sandbox_id]
        return publication

    def stored(self, event: Event) -> None:
        """The event is acknowledged."""
        episode = self._budgets[event.charged].episode
        if episode is not None:
            episode.stored_since = True
        self.remove(event)

    def overdrawn(self, budget: SandboxBudget) -> SandboxBudget | None:
        """The budget that has to give something up after this one has grown; None when all is well.

        When all together are too many, it is the largest one.
        """
        limits = self._limits
        if len(budget.events) > limits.events or budget.size > limits.size:
            return budget
        if self.count > limits.all_events:
            return max(self._budgets.values(), key=lambda each: len(each.events))
        if self.size > limits.all_size:
            return max(self._budgets.values(), key=lambda each: each.size)
        return None

    def drop(self, event: Event, reason: Drop) -> Publication | None:
        """The sandbox loses the event; returns its publication."""
        sandbox_id = event.charged
        budget = self._budgets[sandbox_id]
        episode = budget.episode
        if episode is None:
            episode = budget.episode = _Episode()
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
        """End the episodes that are over."""
        now = self._monotonic()
        for budget in list(self._budgets.values()):
            episode = budget.episode
            if episode is None:
                continue
            quiet = now - episode.last_at
            if quiet >= _FORGOTTEN or (quiet >= _QUIET and episode.stored_since):
                _log.info(
                    "sandbox_events_dropping_over",
                    sandbox_id=budget.sandbox_id,
                    dropped=episode.reasons.total(),
                    reasons=dict(episode.reasons),
                )
                budget.episode = None
                if not budget.events:
                    del self._budgets[budget.sandbox_id]

    @property
    def losing(self) -> int:
        """How many sandboxes lose events at present."""
        return sum(budget.episode is not None for budget in self._budgets.values())

    def drain_dropped(self) -> Mapping[str, Dropped]:
        """What each sandbox has lost since the last call."""
        untold, self._untold = self._untold, {}
        return untold
