"""Removing every key of a pattern from Redis while others go on using the server, and maybe the keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from redis.asyncio import Redis

from sandbox_core.errors import StillWritten
from sandbox_core.tasks import Cancellations

_LEAST, _MOST = 100, 4000
"""Keys looked at per SCAN: at most so many that the server is held up for about a millisecond."""
_AT_ONCE = 100
"""Keys that a SCAN should find, and an UNLINK take: reading and writing them holds the event loop up."""
_LOOKS = 5
"""Looks at the whole keyspace for the keys; for what nobody writes any more it takes two."""
_WRITTEN_MEANWHILE = 10_000
"""Keys that may appear during a look before it is given up: a worker is to be stopped, not outrun."""
_FIRST_LOOK_BACK = 32
"""Batches after which the first look looks back; from then on, whenever they have doubled."""
_SAMPLE = 16
"""Batches that are looked at again."""


async def scan(
    redis: Redis, pattern: str, cancellations: Cancellations
) -> AsyncIterator[tuple[int, list[str]]]:
    """Every key that matches, at times one twice, in batches that may be empty, each with its cursor.

    Where few match, each SCAN looks at more: most of its cost is that of asking.
    """
    cursor, count = 0, _LEAST
    while True:
        cursor, keys = await redis.scan(cursor, match=pattern, count=count)
        cancellations.check()
        count = min(_MOST, max(_LEAST, count * _AT_ONCE // len(keys) if keys else 2 * count), 2 * count)
        # The client answers in text.
        yield cursor, cast("list[str]", keys)
        if cursor == 0:
            return


class KeyRemoval:
    """One removal. A key written meanwhile may escape a SCAN; the looks end with one that found nothing."""

    def __init__(self, redis: Redis, pattern: str) -> None:
        """Made in the task that runs it, whose cancellation takes effect after each request."""
        self._redis = redis
        self._pattern = pattern
        self._cancellations = Cancellations()
        self._removed = 0

    async def run(self) -> int:
        """Remove the keys; returns how many.

        Raises `StillWritten` when the last of `_LOOKS` looks found something, too, or when a worker writes
        so fast that further looks would not help.
        """
        await self._first_look()
        found = self._removed
        for _ in range(_LOOKS - 1):
            if not found:
                return self._removed
            found = 0
            # What was there before is gone: all of these were written since.
            async for _, unlinked in self._unlink():
                found += unlinked
                if found > _WRITTEN_MEANWHILE:
                    raise _still_written()
        if found:
            raise _still_written()
        return self._removed

    async def _first_look(self) -> None:
        """Remove what was there before. Raises `StillWritten` when far too much comes meanwhile.

        In a big keyspace this takes long, and longer when a fast worker makes the keyspace grow ahead of the
        SCAN. A key in the part that it has left behind was written since: now and then a sample of that part
        tells how many there are.
        """
        batches, again_at = 0, _FIRST_LOOK_BACK
        async for cursor, _ in self._unlink():
            batches += 1
            if cursor and batches == again_at:
                again_at *= 2
                if await self._written_behind(_left_behind(cursor)) > _WRITTEN_MEANWHILE:
                    raise _still_written()

    async def _written_behind(self, fraction: float) -> float:
        """About how many keys there are again in this part of the keyspace, which was emptied."""
        found, sampled, batches = 0, 0.0, 0
        async for cursor, unlinked in self._unlink():
            here = _left_behind(cursor) if cursor else 1.0
            batches += 1
            # Where little is left a batch reaches far, maybe into what the look has still to come to.
            if here > fraction:
                break
            found, sampled = found + unlinked, here
            if batches == _SAMPLE:
                break
        return found * fraction / sampled if sampled else 0.0

    async def _unlink(self) -> AsyncIterator[tuple[int, int]]:
        """Remove the keys of one SCAN: each batch's cursor, and how many there were."""
        async for cursor, keys in scan(self._redis, self._pattern, self._cancellations):
            unlinked = 0
            if keys:
                unlinked = await self._redis.unlink(*keys)
                self._cancellations.check()
            self._removed += unlinked
            yield cursor, unlinked


def _left_behind(cursor: int) -> float:
    """How much of the keyspace a SCAN has behind it, from 0 to 1.

    The cursor is counted up from its highest bit, so that a table that grows or shrinks meanwhile keeps what
    was looked at apart from the rest (Redis, `dictScan` in dict.c; Valkey, `hashtableScan` in hashtable.c).
    """
    return int(f"{cursor:064b}"[::-1], 2) / 2**64


def _still_written() -> StillWritten:
    return StillWritten("Redis", "keys")
