"""Discord's own limits, for each sandbox: how often its bots identify, and how much a client may send.

From Discord's developer documentation, "Gateway" (Rate Limiting, Session Start Limit).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from uuid import UUID

from redis.asyncio import Redis

from sandbox_core.redis.errors import translating
from sandbox_core.subjects import client_identify_keys

IDENTIFY_EVERY = 5.0
"""Seconds between two IDENTIFYs of one sandbox."""
IDENTIFIES = 1000
_DAY = 86_400
SENT, SENT_WITHIN = 120, 60.0
"""How many payloads a client may send, within how many seconds."""


class IdentifyLimits:
    """Counts IDENTIFYs in the control plane's Redis, for all processes together."""

    def __init__(self, redis: Redis, *, every: float = IDENTIFY_EVERY, most: int = IDENTIFIES) -> None:
        self._redis = redis
        self._every = every
        self._most = most

    async def too_soon(self, sandbox_id: UUID) -> bool:
        """Return whether the sandbox has to wait; if not, its next IDENTIFY has to."""
        pause, _ = client_identify_keys(sandbox_id)
        with translating():
            return not await self._redis.set(pause, "1", nx=True, px=max(1, round(self._every * 1000)))

    async def used_up(self, sandbox_id: UUID) -> bool:
        """Count one, after `too_soon` said no. Return whether it is more than a day may have."""
        _, key = client_identify_keys(sandbox_id)
        with translating():
            # Only one process at a time is here: the others have to wait.
            text = await self._redis.get(key)
            since, number = (int(each) for each in str(text or "0:0").split(":"))
            now = int(time.time())
            if now - since >= _DAY:
                since, number = now, 0
            if number >= self._most:
                return True
            await self._redis.set(key, f"{since}:{number + 1}", ex=_DAY)
        return False


class SentLimit:
    """What one connection has sent lately; `monotonic` is in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._times: deque[float] = deque(maxlen=SENT)

    def exceeded(self) -> bool:
        """Count one payload. Return whether it is too many."""
        now = self._monotonic()
        full = len(self._times) == SENT and now - self._times[0] < SENT_WITHIN
        self._times.append(now)
        return full
