"""Writing changed routes to Redis: at once, and again until Redis has taken them.

Every process that switches a guild writes its new route, not only the one that was asked to change it: what
that one could not write is lost with it, and the old route would be found when Redis is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from sandbox_core import tasks
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
        self._writing = tasks.OnDemand(self._write_all, "route-cache-writer")

    async def close(self) -> None:
        """Write nothing more; what is not written is lost."""
        await self._writing.close()

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
        if self._unwritten:
            self._writing.begin()

    async def _write_all(self) -> None:
        def failed() -> None:
            _log.exception("route_cache_not_written", guilds=len(self._unwritten))

        await tasks.repeat(
            self._write_batch, failed=failed, pause=_FAILED_PAUSE, while_=lambda: self._unwritten
        )

    async def _write_batch(self) -> None:
        batch = dict(self._unwritten)
        if not await self._put(batch):
            await asyncio.sleep(_RETRY_PAUSE)
            return
        for guild_id, dated in batch.items():
            if self._unwritten.get(guild_id) is dated:
                del self._unwritten[guild_id]

    async def _put(self, routes: Mapping[str, DatedRoute]) -> bool:
        try:
            async with asyncio.timeout(CACHE_TIMEOUT):
                await self._cache.put_many(routes)
        except (DependencyUnavailable, TimeoutError):
            return False
        except Exception:
            # Any error: the change is committed, and is written again until Redis has taken it.
            _log.exception("route_cache_write_failed", guilds=len(routes))
            return False
        return True
