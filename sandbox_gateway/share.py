"""What all sandboxes together, and each of them, may ask of Discord; counted for all processes in Redis.

Production asks Discord directly, with the same token and from the same address. So the sandboxes get a share
of what Discord allows. A call beyond it waits in a short line, and is then refused with the time after which
it will be let through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from sandbox_core import subjects
from sandbox_core.client_endpoint import PRODUCTION
from sandbox_core.redis.errors import translating
from sandbox_core.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

STRANGERS = UUID(int=0)
"""Whose share calls without a known sandbox have: those with a webhook's own token."""

UPKEEP = UUID(int=2)
"""Whose share the endpoint's own work has: no stranger uses it up."""
_NO_LIMIT = 1_000_000_000
_WINDOW_MS = 1000
_INVALID_MS = 600_000

# Nothing is counted unless all let it through: a sandbox that asks too often takes nothing from others.
TAKE_SCRIPT = """
local function over(key, most)
  local count = redis.call('GET', key)
  if count and tonumber(count) >= tonumber(most) then
    return math.max(redis.call('PTTL', key), 1)
  end
end
local stopped = redis.call('PTTL', KEYS[1])
if stopped > 0 then return {'stopped', stopped} end
local wait = over(KEYS[2], ARGV[1]) or over(KEYS[3], ARGV[2])
if wait then return {'invalid_requests', wait} end
wait = over(KEYS[4], ARGV[3])
if wait then return {'share_of_sandbox', wait} end
if ARGV[5] == '1' then
  wait = over(KEYS[5], ARGV[4])
  if wait then return {'share_of_all', wait} end
end
for place = 4, ARGV[5] == '1' and 5 or 4 do
  if redis.call('INCR', KEYS[place]) == 1 then redis.call('PEXPIRE', KEYS[place], ARGV[6]) end
end
return {'', 0}
"""
COUNT_SCRIPT = """
for _, key in ipairs(KEYS) do
  if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, ARGV[1]) end
end
"""
STOP_SCRIPT = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
"""


class ShareUsed(Exception):
    """The call comes too soon; after `retry_after` seconds it is let through."""

    def __init__(self, retry_after: float, reason: str) -> None:
        super().__init__(f"{reason}, {retry_after:g} s")
        self.retry_after = retry_after
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ShareLimits:
    """How much; rates are in calls per second."""

    all_sandboxes: int = 10
    each: int = 5
    production: int = 20
    """What the endpoint itself asks for production's sessions. It takes nothing of the sandboxes' share."""
    longest_wait: float = 2.0
    """The time in seconds that a call may wait in line."""
    invalid_each: int = 1000
    """The most answers 401, 403 and 429 to one sandbox in ten minutes."""
    invalid_all: int = 4000
    """The same for all together. At 10,000 from one address, production's too, Discord bans the address.

    Its ten minutes may have two times as many: the end of one count, and the begin of the next.
    """

    @classmethod
    def of(cls, settings: Settings) -> ShareLimits:
        """Return the settings' limits."""
        return cls(
            all_sandboxes=settings.sandbox_gateway_rest_per_second,
            each=settings.sandbox_gateway_rest_per_sandbox,
        )

    def rate(self, sandbox_id: UUID) -> int:
        """How many calls the sandbox has in a second, or production's sessions have."""
        return self.production if sandbox_id == PRODUCTION else self.each

    def line(self, sandbox_id: UUID) -> int:
        """How many calls of one sandbox may wait in one process."""
        return max(1, int(self.rate(sandbox_id) * self.longest_wait))


@dataclass(slots=True)
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Share:
    """Lets calls through. Every method raises `DependencyUnavailable` when Redis is away."""

    def __init__(
        self,
        redis: Redis,
        limits: ShareLimits = ShareLimits(),
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.limits = limits
        self._sleep = sleep
        self._lines: dict[UUID, _Line] = {}
        self._take = redis.register_script(TAKE_SCRIPT)
        self._count = redis.register_script(COUNT_SCRIPT)
        self._stop = redis.register_script(STOP_SCRIPT)

    async def enter(self, sandbox_id: UUID, *, of_all: bool = True) -> None:
        """Wait for the sandbox's turn. Raises `ShareUsed`.

        With `of_all` false the call takes nothing of what all sandboxes share: Discord does not count answers
        to interactions either, and they have three seconds.
        """
        line = self._lines.setdefault(sandbox_id, _Line())
        if line.waiting >= self.limits.line(sandbox_id):
            raise ShareUsed(line.waiting / self.limits.rate(sandbox_id), "share_of_sandbox")
        line.waiting += 1
        try:
            # One after the other, so that a sandbox with many calls does not come before one with a few.
            async with line.lock:
                await self._wait(sandbox_id, of_all=of_all)
        finally:
            line.waiting -= 1
            if not line.waiting:
                del self._lines[sandbox_id]

    async def _wait(self, sandbox_id: UUID, *, of_all: bool) -> None:
        left = self.limits.longest_wait
        while True:
            reason, seconds = await self._try(sandbox_id, of_all=of_all)
            if not reason:
                return
            if reason in {"stopped", "invalid_requests"} or seconds > left:
                raise ShareUsed(seconds, reason)
            left -= seconds
            await self._sleep(seconds)

    async def _try(self, sandbox_id: UUID, *, of_all: bool) -> tuple[str, float]:
        limits = self.limits
        keys = [
            subjects.REST_STOPPED_KEY,
            subjects.rest_invalid_key(sandbox_id),
            subjects.rest_invalid_key(),
            subjects.rest_share_key(sandbox_id),
            subjects.rest_share_key(),
        ]
        invalid_each, invalid_all = limits.invalid_each, limits.invalid_all
        if sandbox_id == PRODUCTION:
            # The others give way to it, not it to them.
            invalid_each, invalid_all, of_all = _NO_LIMIT, _NO_LIMIT, False
        arguments = [
            *(invalid_each, invalid_all, limits.rate(sandbox_id), limits.all_sandboxes),
            *(int(of_all), _WINDOW_MS),
        ]
        with translating():
            reason, milliseconds = await self._take(keys, arguments)
        return str(reason), int(milliseconds) / 1000

    async def invalid(self, sandbox_id: UUID) -> None:
        """Count an answer that Discord counts as an invalid request."""
        with translating():
            await self._count(
                [subjects.rest_invalid_key(sandbox_id), subjects.rest_invalid_key()], [_INVALID_MS]
            )

    async def stop(self, seconds: float) -> None:
        """Let no sandbox's call through for so long; a longer stop stays as it is."""
        with translating():
            await self._stop([subjects.REST_STOPPED_KEY], [max(1, int(seconds * 1000))])
