"""Where each shard's gateway session can be resumed, kept across processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from sandbox_core.models import ResumePoint
from sandbox_core.subjects import gateway_session_key

from .errors import translating

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["GatewaySessions", "ResumePoint"]

# Discord keeps a session resumable for a few minutes; an older one would only be refused.
_KEPT_SECONDS = 900


_decode = msgspec.json.Decoder(ResumePoint).decode


class GatewaySessions:
    """Loads and saves resume points. Raises `DependencyUnavailable` when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def load(self, application_id: int, shard_id: int, shard_count: int) -> ResumePoint | None:
        """The shard's resume point, or None when there is none that can be used."""
        with translating():
            saved = await self._redis.get(gateway_session_key(application_id, shard_id, shard_count))
        if saved is None:
            return None
        try:
            return _decode(saved)
        except (msgspec.MsgspecError, UnicodeEncodeError):
            # Written by another version: a new session is as good as one that can't be read.
            return None

    async def save(self, application_id: int, shard_count: int, points: Mapping[int, ResumePoint]) -> None:
        """Keep these shards' resume points, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for shard_id, point in points.items():
            key = gateway_session_key(application_id, shard_id, shard_count)
            pipeline.set(key, msgspec.json.encode(point), ex=_KEPT_SECONDS)
        with translating():
            await pipeline.execute()

    async def forget(self, application_id: int, shard_id: int, shard_count: int, session_id: str) -> None:
        """This session is gone: nobody may try to resume it again. A newer session's point stays."""
        kept = await self.load(application_id, shard_id, shard_count)
        if kept is None or kept.session_id == session_id:
            with translating():
                await self._redis.delete(gateway_session_key(application_id, shard_id, shard_count))
