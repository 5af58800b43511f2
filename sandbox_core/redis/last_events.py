"""When each guild last had an event in production, told among processes: one sorted set.

Beside the guilds, whose scores are moments, it holds three members of its own with negative scores: as of
when it is complete (`since`), when somebody last wrote it (`until`), and a number that says which record it
is. They stand in the same key, so that whatever loses a guild loses them too: an eviction, a flush, an old
snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox_core import subjects

from .errors import translating

if TYPE_CHECKING:
    from redis.asyncio import Redis

_SINCE, _UNTIL, _NUMBER = "since", "until", "number"
_BATCH = 500


@dataclass(frozen=True, slots=True)
class RecordState:
    """What the record says of itself; moments in seconds since the epoch."""

    since: float
    until: float
    number: int


class LastEventRecord:
    """Reads and writes it. Every method raises `DependencyUnavailable` when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def state(self) -> RecordState | None:
        """What the record says of itself; None when there is none."""
        with translating():
            return _state(await self._redis.zmscore(subjects.LAST_EVENTS_KEY, [_SINCE, _UNTIL, _NUMBER]))

    async def last(self, guild_id: str) -> tuple[float | None, RecordState | None]:
        """When the guild had its last event, as far as is written, and the record's state."""
        with translating():
            found, *state = await self._redis.zmscore(
                subjects.LAST_EVENTS_KEY, [guild_id, _SINCE, _UNTIL, _NUMBER]
            )
        return found, _state(state)

    async def begin(self, number: int, since: float, now: float) -> None:
        """Begin anew: what was there goes."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(subjects.LAST_EVENTS_KEY)
            pipeline.zadd(subjects.LAST_EVENTS_KEY, {_SINCE: -since, _UNTIL: -now, _NUMBER: -number})
            with translating():
                await pipeline.execute()

    async def incomplete_before(self, since: float) -> None:
        """Before this moment the record may lack something."""
        with translating():
            await self._redis.zadd(subjects.LAST_EVENTS_KEY, {_SINCE: -since}, lt=True, xx=True)

    async def write(self, moments: Mapping[str, float], now: float) -> None:
        """Write guilds' latest moments; an earlier one changes nothing."""
        guild_ids = list(moments)
        for first in range(0, len(guild_ids), _BATCH):
            batch = {guild_id: moments[guild_id] for guild_id in guild_ids[first : first + _BATCH]}
            with translating():
                await self._redis.zadd(subjects.LAST_EVENTS_KEY, batch, gt=True)
        with translating():
            # Last, and only to what is there: it says that the rest was written.
            await self._redis.zadd(subjects.LAST_EVENTS_KEY, {_UNTIL: -now}, lt=True, xx=True)

    async def forget_beyond(self, begin: float, end: float) -> None:
        """Drop guilds whose last event is older, or is said to be later than `end`."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zremrangebyscore(subjects.LAST_EVENTS_KEY, 0, begin)
            pipeline.zremrangebyscore(subjects.LAST_EVENTS_KEY, f"({end!r}", "+inf")
            with translating():
                await pipeline.execute()


def _state(scores: list[float | None]) -> RecordState | None:
    since, until, number = scores
    if since is None or until is None or number is None or not math.isfinite(since + until + number):
        return None
    return RecordState(-since, -until, int(-number))
