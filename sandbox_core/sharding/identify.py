"""When a shard may identify: spaced across processes, and never so often that the daily budget is gone.

From Discord's developer documentation ("Gateway", session start limit): a bot may identify a thousand times
in 24 hours (more for large ones; RESUME is free), and whoever exceeds that loses the token. Within one
bucket (`shard_id % max_concurrency`) there have to be five seconds between two IDENTIFYs, whichever process
they come from. `GET /gateway/bot` tells what is left.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable

from . import tuning
from .identify_rows import Attempts

_log = structlog.get_logger("sandbox.gateway")

_FREE_ATTEMPTS = 5
_RESERVED_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class StartLimit:
    """Discord's `session_start_limit`; `reset_after` in seconds."""

    total: int
    remaining: int
    reset_after: float
    max_concurrency: int

    def reserve(self, shard_count: int) -> int:
        """What is kept for shards that have not tried yet: a start of every shard, 5 % at least."""
        return max(shard_count, math.ceil(self.total * _RESERVED_SHARE))


def pause_before(limit: StartLimit, attempts_in_a_row: int, shard_count: int) -> float:
    """Seconds from a shard's last IDENTIFY to its next, after so many whose sessions did not stay up.

    A few are free, then each pause is twice as long. From the reserve on the rest of the budget is spread
    over all shards and the time until it is full again, so that a crash loop never comes to its end.
    """
    if attempts_in_a_row == 0:
        return 0.0
    beyond = attempts_in_a_row - _FREE_ATTEMPTS
    pause = (
        0.0
        if beyond < 0
        else min(tuning.IDENTIFY_FIRST_PAUSE * 2.0 ** min(beyond, 10), tuning.IDENTIFY_LONGEST_PAUSE)
    )
    if limit.remaining <= limit.reserve(shard_count):
        pause = max(pause, limit.reset_after * shard_count / max(limit.remaining, 1))
    return pause


class Rows(Protocol):
    """What processes tell one another; see `IdentifyRows`."""

    async def take(self, bucket: int, spacing: float) -> float: ...

    async def attempts(self, shard_id: int, shard_count: int) -> Attempts: ...

    async def count(self, shard_id: int, shard_count: int) -> None: ...

    async def stayed_up(self, shard_id: int, shard_count: int) -> None: ...


@dataclass
class _Shard:
    """One shard's IDENTIFYs by this process; moments are on the monotonic clock, in seconds."""

    waits: str = ""
    """Why it has not identified yet; "" when it does not wait."""
    in_a_row: int = 0
    """How many were sent since a session of it stayed up."""
    identified_at: float = 0.0
    unsure_since: float | None = None
    """Since when nobody could tell, near the end of the budget, how often it was identified in vain."""

    def attempts(self, now: float) -> Attempts:
        """What this process knows."""
        return Attempts(self.in_a_row, now - self.identified_at if self.in_a_row else 0.0)


@dataclass
class _Bucket:
    """Shards of which only one at a time may identify."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    taken_at: float = -math.inf


class IdentifyGate:
    """Lets shards identify one after another, and holds back those that do it in vain.

    With PostgreSQL away the spacing and the attempts are this process's own. `limit` is what Discord said
    at the start; `ask` asks again, or raises `DependencyUnavailable`. `sleep` and `monotonic` are in seconds.
    """

    def __init__(
        self,
        rows: Rows,
        limit: StartLimit,
        ask: Callable[[], Awaitable[StartLimit]],
        *,
        spacing: float = tuning.IDENTIFY_SPACING,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shard_count = 1
        """How many shards there are, once that is known."""
        self._rows = rows
        self._limit = limit
        self._ask = ask
        self._spacing = spacing
        self._sleep = sleep
        self._monotonic = monotonic
        self._shards: defaultdict[int, _Shard] = defaultdict(_Shard)
        self._buckets: defaultdict[int, _Bucket] = defaultdict(_Bucket)
        self._alone = False

    @property
    def waiting(self) -> Mapping[int, str]:
        """Why a shard has not identified yet, by shard."""
        return {shard_id: shard.waits for shard_id, shard in self._shards.items() if shard.waits}

    @asynccontextmanager
    async def turn(self, shard_id: int) -> AsyncIterator[None]:
        """Inside, the shard may connect in order to identify: no other of its bucket in this process does.

        Waits as long as the budget demands.
        """
        shard = self._shards[shard_id]
        try:
            await self._within_budget(shard_id, shard)
            shard.waits = "waits for its turn to identify"
            bucket = self._buckets[self._bucket_id(shard_id)]
            async with bucket.lock:
                # Before connecting: Discord need not wait for an IDENTIFY that can't come yet.
                await self._sleep_if(self._spacing_left(bucket))
                yield
        finally:
            shard.waits = ""

    async def take(self, shard_id: int) -> None:
        """Return at the moment at which the shard has to send IDENTIFY."""
        bucket_id = self._bucket_id(shard_id)
        shard, bucket = self._shards[shard_id], self._buckets[bucket_id]
        # Counted first: what comes between the turn and IDENTIFY eats into the spacing.
        await self._tell(self._rows.count(shard_id, self.shard_count))
        while True:
            wait = self._spacing_left(bucket)
            if wait <= 0:
                wait = await self._take(bucket_id)
            if wait <= 0:
                break
            await self._sleep(wait)
        bucket.taken_at = shard.identified_at = self._monotonic()
        shard.in_a_row += 1
        shard.unsure_since = None
        self._limit = replace(self._limit, remaining=max(self._limit.remaining - 1, 0))

    async def stayed_up(self, shard_id: int) -> None:
        """The shard's session has stayed up."""
        self._shards[shard_id].in_a_row = 0
        await self._tell(self._rows.stayed_up(shard_id, self.shard_count))

    def _spacing_left(self, bucket: _Bucket) -> float:
        return bucket.taken_at + self._spacing - self._monotonic()

    async def _sleep_if(self, seconds: float) -> None:
        if seconds > 0:
            await self._sleep(seconds)

    def _bucket_id(self, shard_id: int) -> int:
        return shard_id % max(self._limit.max_concurrency, 1)

    async def _within_budget(self, shard_id: int, shard: _Shard) -> None:
        while True:
            attempts = await self._attempts(shard_id, shard)
            await self._refresh()
            pause = pause_before(self._limit, attempts.in_a_row, self.shard_count) - attempts.seconds_ago
            if self._limit.remaining <= 0:
                # Discord says from now on how long; one IDENTIFY more would cost the token.
                pause = self._limit.reset_after
            if pause <= 0:
                return
            if not shard.waits:
                _log.error(
                    "identify_held_back",
                    shard=shard_id,
                    seconds=round(pause),
                    in_a_row=attempts.in_a_row,
                    remaining=self._limit.remaining,
                )
            shard.waits = (
                f"identifies again in {pause:.0f} s: {attempts.in_a_row} times in a row its session did not "
                f"stay up, and {self._limit.remaining} of {self._limit.total} starts are left"
            )
            await self._sleep(min(pause, tuning.IDENTIFY_LOOK_AGAIN))

    async def _attempts(self, shard_id: int, shard: _Shard) -> Attempts:
        own = shard.attempts(self._monotonic())
        try:
            async with asyncio.timeout(tuning.IDENTIFY_ROWS_WITHIN):
                known = await self._rows.attempts(shard_id, self.shard_count)
        except (DependencyUnavailable, TimeoutError):
            # Whether a crash loop is under way can't be seen now: near the end of the budget take it so.
            if self._limit.remaining <= self._limit.reserve(self.shard_count) and not own.in_a_row:
                now = self._monotonic()
                if shard.unsure_since is None:
                    shard.unsure_since = now
                return Attempts(1, now - shard.unsure_since)
            return own
        return max(known, own, key=lambda attempts: attempts.in_a_row)

    async def _refresh(self) -> None:
        try:
            self._limit = await self._ask()
        except DependencyUnavailable as error:
            _log.warning("start_limit_unknown", dependency=error.dependency, reason=error.reason)

    async def _take(self, bucket: int) -> float:
        try:
            async with asyncio.timeout(tuning.IDENTIFY_ROWS_WITHIN):
                wait = await self._rows.take(bucket, self._spacing)
        except (DependencyUnavailable, TimeoutError):
            if not self._alone:
                _log.warning("identifies_spaced_locally", dependency="PostgreSQL")
            self._alone = True
            return 0.0
        self._alone = False
        return wait

    async def _tell(self, told: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(tuning.IDENTIFY_ROWS_WITHIN):
                await told
        except (DependencyUnavailable, TimeoutError):
            _log.info("identifies_not_counted", dependency="PostgreSQL")
