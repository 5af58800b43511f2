"""Writing changed routes to Redis: at once, and again until Redis has taken them.

Every process that switches a guild writes its new route, not only the one that was asked to change it: what
that one could not write is lost with it, and the old route would be found when Redis is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from sandbox_core import cancellation
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import DatedRoute
from sandbox_core.redis.route_cache import RouteCache

_log = structlog.get_logger("sandbox.routes")

CACHE_TIMEOUT = 1.0
"""Seconds that Redis has for an answer."""
_RETRY_PAUSE = 0.5
_FAILED_PAUSE = 5.0


class CacheWriter:
    """Remembers of each guild the latest route that Redis has not taken yet."""

    def __init__(self, cache: RouteCache) -> None:
        self._cache = cache
        self._unwritten: dict[str, DatedRoute] = {}
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Write nothing more; what is not written is lost."""
        if self._task is not None:
            # redis-py loses a cancellation now and then, and while Redis is away this would go on for ever.
            await cancellation.end(self._task)

    async def write(self, routes: Mapping[str, DatedRoute]) -> None:
        """Write these routes now, or as soon as Redis takes them."""
        # Of what is waiting, these are the successors.
        for guild_id in routes:
            self._unwritten.pop(guild_id, None)
        if not await self._put(routes):
            _log.warning("route_cache_write_delayed", dependency="Redis", guilds=len(routes))
            self.write_soon(routes)

    def write_soon(self, routes: Mapping[str, DatedRoute]) -> None:
        """Write these routes beside whatever the caller goes on with."""
        for guild_id, dated in routes.items():
            waiting = self._unwritten.get(guild_id)
            if waiting is None or waiting.as_of <= dated.as_of:
                self._unwritten[guild_id] = dated
        if self._unwritten and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._write_all(), name="route-cache-writer")

    async def _write_all(self) -> None:
        while batch := dict(self._unwritten):
            try:
                written = await self._put(batch)
            except Exception:
                # Whatever it was: a process that writes no more is noticed only when it dies.
                _log.exception("route_cache_not_written", guilds=len(batch))
                await asyncio.sleep(_FAILED_PAUSE)
                continue
            if not written:
                await asyncio.sleep(_RETRY_PAUSE)
                continue
            for guild_id, dated in batch.items():
                if self._unwritten.get(guild_id) is dated:
                    del self._unwritten[guild_id]

    async def _put(self, routes: Mapping[str, DatedRoute]) -> bool:
        try:
            async with asyncio.timeout(CACHE_TIMEOUT):
                await self._cache.put_many(routes)
        except (DependencyUnavailable, TimeoutError):
            return False
        return True
