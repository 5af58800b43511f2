"""Removes every key of a pattern from Redis while clients use the server, and perhaps write such keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from redis.asyncio import Redis

from sandbox_core.errors import StillWritten
from sandbox_core.tasks import Cancellations

_LEAST, _MOST = 100, 4000
"""The most keys for one SCAN to visit: it blocks the server for about a millisecond."""
_AT_ONCE = 100
"""The number of keys that a SCAN should find and an UNLINK remove: encoding them blocks the event loop."""
_LOOKS = 5
"""The most scans of the whole keyspace; two are enough when nobody writes the keys any more."""
_WRITTEN_MEANWHILE = 10_000
"""The most new keys during a scan; with more, the removal fails: the worker must be stopped first."""
_FIRST_LOOK_BACK = 32
"""The number of batches before the first sample of the scanned part; later samples at twice the number."""
_SAMPLE = 16
"""The number of batches in a sample."""


async def scan(
    redis: Redis, pattern: str, cancellations: Cancellations
) -> AsyncIterator[tuple[int, list[str]]]:
    """Yield batches of matching keys, each with its cursor. A batch may be empty, and a key may come twice.

    When few keys match, each SCAN visits more: most of its cost is the request itself.
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
    """One removal. A SCAN may miss a key written meanwhile, so the scans repeat until one finds nothing."""

    def __init__(self, redis: Redis, pattern: str) -> None:
        """Create it in the task that runs it; a cancellation of the task takes effect after each request."""
        self._redis = redis
        self._pattern = pattern
        self._cancellations = Cancellations()
        self._removed = 0

    async def run(self) -> int:
        """Remove the keys. Return their number.

        Raises `StillWritten` when the last of `_LOOKS` scans still found keys, or when a worker writes so
        fast that more scans would not help.
        """
        await self._first_look()
        found = self._removed
        for _ in range(_LOOKS - 1):
            if not found:
                return self._removed
            found = 0
            # The first scan removed all old keys: these are new.
            async for _, unlinked in self._unlink():
                found += unlinked
                if found > _WRITTEN_MEANWHILE:
                    raise _still_written()
        if found:
            raise _still_written()
        return self._removed

    async def _first_look(self) -> None:
        """Remove the old keys. Raises `StillWritten` when too many new keys appear meanwhile.

        In a big keyspace this takes long, and longer when a fast worker makes it grow ahead of the SCAN. A
        key in the scanned part must be new. So a sample of the scanned part, now and then, estimates the
        number of new keys.
        """
        batches, again_at = 0, _FIRST_LOOK_BACK
        async for cursor, _ in self._unlink():
            batches += 1
            if cursor and batches == again_at:
                again_at *= 2
                if await self._written_behind(_left_behind(cursor)) > _WRITTEN_MEANWHILE:
                    raise _still_written()

    async def _written_behind(self, fraction: float) -> float:
        """Estimate the number of new keys in the scanned fraction of the keyspace."""
        found, sampled, batches = 0, 0.0, 0
        async for cursor, unlinked in self._unlink():
            here = _left_behind(cursor) if cursor else 1.0
            batches += 1
            # With few keys left a batch covers much, perhaps also what the scan has not reached yet.
            if here > fraction:
                break
            found, sampled = found + unlinked, here
            if batches == _SAMPLE:
                break
        return found * fraction / sampled if sampled else 0.0

    async def _unlink(self) -> AsyncIterator[tuple[int, int]]:
        """Remove the keys of one scan. Yield each batch's cursor and number of removed keys."""
        async for cursor, keys in scan(self._redis, self._pattern, self._cancellations):
            unlinked = 0
            if keys:
                unlinked = await self._redis.unlink(*keys)
                self._cancellations.check()
            self._removed += unlinked
            yield cursor, unlinked


def _left_behind(cursor: int) -> float:
    """Return the fraction of the keyspace that a SCAN has visited, from 0 to 1.

    The cursor counts up from its highest bit. So also in a table that grows or shrinks meanwhile the visited
    keys are separate from the rest (Redis, `dictScan` in dict.c; Valkey, `hashtableScan` in hashtable.c).
    """
    return int(f"{cursor:064b}"[::-1], 2) / 2**64


def _still_written() -> StillWritten:
    return StillWritten("Redis", "keys")
