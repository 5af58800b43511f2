"""Where each shard's gateway session can be resumed, kept across processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from sandbox_core.models import ResumePoint
from sandbox_core.moments import MARGIN
from sandbox_core.redis.errors import translating
from sandbox_core.strangers import UNREADABLE
from sandbox_core.subjects import gateway_session_key

from . import tuning

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["GatewaySessions", "ResumePoint"]


# Before all: how long a key is kept, and the latest credible time. For each key: the point, its session, its
# sequence, its epoch. What is no point is replaced by any, and so is one of a time still to come.
SAVE_SCRIPT = """
for i = 1, #KEYS do
  local first = 4 * i - 1
  local text = redis.pcall('GET', KEYS[i])
  local read, kept = pcall(cjson.decode, text)
  local later = true
  if read and type(kept) == 'table' and type(kept.sequence) == 'number'
    and (type(kept.saved_at) ~= 'number' or kept.saved_at <= tonumber(ARGV[2])) then
    local kept_epoch = type(kept.epoch) == 'number' and kept.epoch or 0
    later = tonumber(ARGV[first + 3]) >= kept_epoch
      and (kept.session_id ~= ARGV[first + 1] or tonumber(ARGV[first + 2]) >= kept.sequence)
  end
  if later then
    redis.call('SET', KEYS[i], ARGV[first], 'EX', ARGV[1])
  end
end
"""

_decode = msgspec.json.Decoder(ResumePoint).decode


class GatewaySessions:
    """Loads and saves resume points. Raises `DependencyUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, *, now: Callable[[], float] = time.time) -> None:
        """`now` is in seconds since the epoch."""
        self._redis = redis
        self._now = now
        self._save = redis.register_script(SAVE_SCRIPT)

    async def load(self, application_id: int, shard_id: int, shard_count: int) -> ResumePoint | None:
        """The shard's resume point, or None when there is none that can be used."""
        with translating():
            saved = await self._redis.get(gateway_session_key(application_id, shard_id, shard_count))
        if saved is None:
            return None
        try:
            return _decode(saved)
        except UNREADABLE:
            # Written by another version: a new session is as good as one that can't be read.
            return None

    async def save(self, application_id: int, shard_count: int, points: Mapping[int, ResumePoint]) -> None:
        """Keep these shards' resume points in one round trip, but for those that would go back.

        See `ResumePointStore.save`.
        """
        if not points:
            return
        keys = [gateway_session_key(application_id, shard_id, shard_count) for shard_id in points]
        arguments: list[str | bytes | int] = [tuning.SESSION_KEPT, repr(self._now() + MARGIN)]
        for point in points.values():
            arguments += (msgspec.json.encode(point), point.session_id, point.sequence, point.epoch)
        with translating():
            await self._save(keys, arguments)

    async def forget(self, application_id: int, shard_id: int, shard_count: int, session_id: str) -> None:
        """This session is gone: nobody may try to resume it again. A newer session's point stays."""
        kept = await self.load(application_id, shard_id, shard_count)
        if kept is None or kept.session_id == session_id:
            with translating():
                await self._redis.delete(gateway_session_key(application_id, shard_id, shard_count))
