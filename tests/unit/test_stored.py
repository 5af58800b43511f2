"""When a sandbox is near to what it may store, full, and has room again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sandbox_core.stored import MIB, Level, StorageLimit, Stored, level_after, mebibytes

ROOM, NEAR, FULL = Level.ROOM, Level.NEAR, Level.FULL
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "share", "after"),
    [
        (ROOM, 0.0, ROOM),
        (ROOM, 0.79, ROOM),
        (ROOM, 0.8, NEAR),
        (ROOM, 1.0, FULL),
        (NEAR, 0.7, NEAR),
        (NEAR, 0.69, ROOM),
        (NEAR, 0.99, NEAR),
        (NEAR, 1.0, FULL),
        (FULL, 0.9, FULL),
        (FULL, 0.89, NEAR),
        (FULL, 0.7, NEAR),
        (FULL, 0.69, ROOM),
        (FULL, 0.0, ROOM),
    ],
)
def test_a_level_is_left_later_than_it_is_entered(before: Level, share: float, after: Level) -> None:
    assert level_after(before, share) is after


def test_going_up_and_down_around_a_limit_crosses_it_once() -> None:
    level, crossings = ROOM, 0
    for share in (0.79, 0.81, 0.78, 0.82, 0.79, 0.99, 1.01, 0.98, 1.02, 0.97):
        after = level_after(level, share)
        crossings += after is not level
        level = after
    assert (level, crossings) == (FULL, 2)


def test_the_nearer_limit_counts() -> None:
    limit = StorageLimit(100, 10)
    assert limit.share(50, 9) == 0.9
    assert limit.share(95, 1) == 0.95
    assert StorageLimit(100).share(50, 10**9) == 0.5


def test_a_measurement_has_the_moment_of_its_level() -> None:
    limit, later = StorageLimit(100), NOW + timedelta(seconds=30)
    first = Stored("Redis", 0, 0, NOW).measured(85, 1, NOW, limit)
    assert (first.level, first.before, first.since) == (NEAR, ROOM, NOW)
    second = first.measured(90, 2, later, limit)
    assert (second.bytes, second.items, second.measured_at) == (90, 2, later)
    assert (second.level, second.before, second.since) == (NEAR, ROOM, NOW)
    third = second.measured(100, 2, later, limit)
    assert (third.level, third.before, third.since) == (FULL, NEAR, later)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1, "0.0"), (12_900_000, "12.3"), (256 * MIB, "256"), (2000 * MIB + 1, "2,000")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert mebibytes(size) == text
