"""Discord's ids, with milliseconds since 2015 in the upper 42 bits."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

DISCORD_EPOCH_MS = 1_420_070_400_000

Clock = Callable[[], float]
"""Seconds since the Unix epoch."""


class SnowflakeFactory:
    """Creates ids that always grow, also when the clock stands still."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> int:
        """Return a new id."""
        stamp = (int(self._clock() * 1000) - DISCORD_EPOCH_MS) << 22
        self._last = max(stamp, self._last + 1)
        return self._last

    def next_guild(self) -> int:
        """Return a new id with its own millisecond.

        The time part of a guild id chooses the shard, so guilds with the same millisecond would all have the
        same shard.
        """
        stamp = (int(self._clock() * 1000) - DISCORD_EPOCH_MS) << 22
        self._last = max(stamp, ((self._last >> 22) + 1) << 22)
        return self._last


def shard_of(guild_id: int | None, shard_count: int) -> int:
    """Return the shard of a guild's events; events without a guild go to shard 0."""
    return 0 if guild_id is None else (guild_id >> 22) % shard_count


def isoformat(seconds: float) -> str:
    """Return a timestamp in Discord's format: UTC, microseconds, `+00:00`."""
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.isoformat(timespec="microseconds")


def created_at(snowflake: int) -> float:
    """Return the time in an id, in seconds since the Unix epoch."""
    return ((snowflake >> 22) + DISCORD_EPOCH_MS) / 1000
