"""How busy guilds and sandboxes were just now, as this process saw it.

A count per guild and second would grow with the number of guilds; two half-filled minutes are enough to
say "about so many in the last minute", and an idle guild is forgotten after two.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from sandbox_core.metrics import RoutingMetrics
from sandbox_core.nats.publication import Publication

_MINUTE = 60.0


class _Minutes:
    """Counts by key over the present minute and the one before."""

    __slots__ = ("before", "began", "present")

    def __init__(self) -> None:
        self.present: dict[str, int] = {}
        self.before: dict[str, int] = {}
        self.began = 0.0

    def turn(self, now: float) -> None:
        """Begin the next minute when the present one is over."""
        elapsed = now - self.began
        if elapsed < _MINUTE:
            return
        self.before = self.present if elapsed < 2 * _MINUTE else {}
        self.present = {}
        self.began = now

    def last_minute(self, key: str, now: float) -> int:
        """About how often `key` was counted in the last 60 seconds."""
        self.turn(now)
        # As much of the minute before as still lies in the last 60 seconds, taken as evenly spread.
        share = 1 - (now - self.began) / _MINUTE
        return self.present.get(key, 0) + round(self.before.get(key, 0) * share)


class Activity:
    """Counts acknowledged events, also in the metrics. `now` is in seconds since the epoch."""

    def __init__(self, now: Callable[[], float], metrics: RoutingMetrics) -> None:
        self._now = now
        self._metrics = metrics
        self._production = _Minutes()
        self._sandboxes = _Minutes()
        self._touched: dict[str, float] = {}
        self._fresh: dict[str, float] = {}

    def acknowledged(self, publications: Iterable[Publication], monotonic: float) -> None:
        """These were acknowledged, at this moment of the clock that frames are received by.

        An event counts in its sandbox, or else for its guild in production.
        """
        now = self._now()
        production, sandboxes = self._production, self._sandboxes
        production.turn(now)
        sandboxes.turn(now)
        fresh, touched = self._fresh, self._touched
        in_production, in_sandboxes = production.present, sandboxes.present
        routed, durations = self._metrics.routed, self._metrics.route_seconds
        bounds, buckets = durations.bounds, durations.counts
        total = seconds = 0.0
        bucket, received_at = 0, -1.0
        for publication in publications:
            event = publication.context
            frame, destination = event.frame, event.destination
            # Those that were read together often come together.
            if frame.received_at != received_at:
                received_at = frame.received_at
                seconds = monotonic - received_at
                bucket = bisect_left(bounds, seconds)
            total += seconds
            buckets[bucket] += 1
            if publication.is_dead_letter:
                routed["dead_letter"] += 1
            else:
                routed[destination.label] += 1
            if frame.type == "GUILD_CREATE":
                # Every new session brings one per guild: that is no sign of life in the guild.
                continue
            sandbox_id = destination.sandbox_id
            if sandbox_id is not None:
                touched[sandbox_id] = now
                in_sandboxes[sandbox_id] = in_sandboxes.get(sandbox_id, 0) + 1
            elif guild_id := event.lane.guild_id:
                fresh[guild_id] = now
                in_production[guild_id] = in_production.get(guild_id, 0) + 1
        durations.total += total

    def production_events_last_minute(self, guild_id: str) -> int:
        """About how many of the guild's events went to production in the last minute."""
        return self._production.last_minute(guild_id, self._now())

    def sandbox_events_last_minute(self, sandbox_id: str) -> int:
        """About how many events the sandbox received in the last minute."""
        return self._sandboxes.last_minute(sandbox_id, self._now())

    def last_production_event(self, guild_id: str) -> float | None:
        """When the guild's last event since the latest `drain_fresh` went to production."""
        return self._fresh.get(guild_id)

    def drain_fresh(self) -> dict[str, float]:
        """When each guild that had events in production since the last call had its latest."""
        fresh, self._fresh = self._fresh, {}
        return fresh

    def drain_touched(self) -> dict[str, datetime]:
        """When each sandbox that received events since the last call received its latest."""
        touched, self._touched = self._touched, {}
        return {sandbox_id: datetime.fromtimestamp(when, UTC) for sandbox_id, when in touched.items()}
