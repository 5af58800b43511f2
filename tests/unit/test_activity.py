"""Counts of the last minute, with the clock in the test's hand."""

from __future__ import annotations

from datetime import UTC, datetime

from sandbox_core.event_router import Activity
from sandbox_core.metrics import RoutingMetrics
from tests.event_path.conftest import count

GUILD, SANDBOX = "413625648685547541", "3f2a9c01-7b1c-4b7e-9d55-0d3f0a1b2c3d"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minute_passes_evenly_and_then_is_forgotten() -> None:
    clock = Clock()
    activity = Activity(clock, RoutingMetrics())
    for _ in range(60):
        count(activity, GUILD, None)
    assert activity.production_events_last_minute(GUILD) == 60
    clock.now += 60
    count(activity, GUILD, None)
    assert activity.production_events_last_minute(GUILD) == 61
    clock.now += 30
    assert activity.production_events_last_minute(GUILD) == 31
    clock.now += 120
    assert activity.production_events_last_minute(GUILD) == 0


def test_sides_are_counted_apart() -> None:
    clock = Clock()
    activity = Activity(clock, RoutingMetrics())
    count(activity, GUILD, SANDBOX)
    count(activity, None, None)
    assert activity.sandbox_events_last_minute(SANDBOX) == 1
    assert activity.production_events_last_minute(GUILD) == 0


def test_touched_sandboxes_are_told_once() -> None:
    clock = Clock()
    activity = Activity(clock, RoutingMetrics())
    count(activity, GUILD, SANDBOX)
    clock.now = 1005.0
    count(activity, GUILD, SANDBOX)
    assert activity.drain_touched() == {SANDBOX: datetime.fromtimestamp(1005.0, UTC)}
    assert activity.drain_touched() == {}
