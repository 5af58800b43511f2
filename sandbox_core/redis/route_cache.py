"""Cached routes: `sandbox:route:{guild_id}` holds a sandbox id, or `__NULL__` for "mapped to none".

Whoever changes a route overwrites its key; whoever only read PostgreSQL sets it only where it is
absent, so that a slow reader can't put an old route over a new one. A key never outlives its route.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from sandbox_core import subjects
from sandbox_core.models import Route

from .errors import translating

if TYPE_CHECKING:
    from redis.asyncio import Redis


class RouteCache:
    """Reads and writes cached routes. Every method raises `DependencyUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, ttl: timedelta, *, now: Callable[[], float] = time.time) -> None:
        """`ttl` bounds the life of a key; `now` is in seconds since the epoch."""
        self._redis = redis
        self._ttl_ms = int(ttl.total_seconds() * 1000)
        self._now = now

    async def get_many(self, guild_ids: Iterable[str]) -> dict[str, Route | None]:
        """What is cached of these guilds, in one MGET; a guild that is not cached is left out.

        The key carries no expiry to read, so a route found here holds for the present batch only.
        """
        wanted = list(guild_ids)
        if not wanted:
            return {}
        with translating():
            values = await self._redis.mget([subjects.route_key(guild_id) for guild_id in wanted])
        found: dict[str, Route | None] = {}
        for guild_id, value in zip(wanted, values, strict=True):
            route = str(value)
            if route == subjects.ROUTE_NULL:
                found[guild_id] = None
            elif subjects.is_sandbox_id(route):
                # Whatever else stands there is nobody's route: PostgreSQL is asked.
                found[guild_id] = Route(route, math.inf)
        return found

    async def put_many(self, routes: Mapping[str, Route | None], *, only_if_absent: bool) -> None:
        """Cache these routes (None: mapped to no sandbox), in one pipeline."""
        if not routes:
            return
        now = self._now()
        pipeline = self._redis.pipeline(transaction=False)
        for guild_id, route in routes.items():
            remaining = self._ttl_ms if route is None else int((route.expires_at - now) * 1000)
            live = route is not None and remaining > 0
            pipeline.set(
                subjects.route_key(guild_id),
                route.sandbox_id if route is not None and live else subjects.ROUTE_NULL,
                px=min(self._ttl_ms, remaining) if live else self._ttl_ms,
                nx=only_if_absent,
            )
        with translating():
            await pipeline.execute()

    async def invalidate(self, guild_ids: Iterable[str]) -> None:
        """Forget what is cached of these guilds."""
        keys = [subjects.route_key(guild_id) for guild_id in guild_ids]
        if keys:
            with translating():
                await self._redis.unlink(*keys)
