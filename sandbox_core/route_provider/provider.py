"""Guild to sandbox: the in-process table, behind it Redis, then PostgreSQL, then the last table known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import Route, Switch
from sandbox_core.postgres.switches import UNTRUSTED_AFTER
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.routing import RouteTable
from sandbox_core.subjects import is_guild_id

from .follower import RouteFollower
from .switchboard import Gate

_log = structlog.get_logger("sandbox.routes")

_CACHE_TIMEOUT = 1.0
_SWITCH_TIMEOUT = 2.0
_RETRY_PAUSE = 0.5
# After a failure a tier is left alone for this long, so that an outage costs one time-out and not one
# for each batch of events.
_REST_AFTER_FAILURE = 1.0


class RouteRows(Protocol):
    """Reads routes from PostgreSQL; raises `DependencyUnavailable` when it is away."""

    async def read_many(self, guild_ids: Collection[str]) -> dict[str, Route | None]:
        """The routes of these guilds; None where mapped to no running sandbox."""

    async def read_as_of(self, guild_ids: Collection[str]) -> tuple[dict[str, Route | None], float]:
        """As `read_many`, with the database's time just before it read."""

    async def read_all(self) -> dict[str, Route]:
        """Every mapped guild's route."""


class AsksProcesses(Protocol):
    """Has every live gateway process confirm a change; see `SwitchRequests`."""

    async def ask(self, guild_ids: Collection[str]) -> Switch:
        """Raises `DependencyUnavailable` when nobody could be asked."""


class TellsFence(Protocol):
    """Tells changed routes beside PostgreSQL; see `RouteFence`."""

    async def tell(self, routes: Mapping[str, Route | None], as_of: float) -> None: ...


class RouteProvider:
    """Answers where guilds' events go, and carries changes of routes to where they are read.

    `now` is in seconds since the epoch, `monotonic` in seconds. Without a follower (a command line, a
    worker) every answer comes from Redis and PostgreSQL. Without `processes` nobody is asked to confirm a
    change, and this process alone has switched when one is answered.
    """

    def __init__(
        self,
        rows: RouteRows,
        cache: RouteCache,
        metrics: RoutingMetrics,
        *,
        follower: RouteFollower | None = None,
        processes: AsksProcesses | None = None,
        fence: TellsFence | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rows = rows
        self._cache = cache
        self._metrics = metrics
        self._follower = follower
        self._processes = processes
        self._fence = fence
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._rest_until = {"redis": 0.0, "postgres": 0.0}
        self._unwritten: dict[str, Route | None] = {}
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow changes; returns at once."""
        if self._follower is not None:
            self._follower.start()

    async def close(self) -> None:
        """Stop following."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        if self._follower is not None:
            await self._follower.close()

    def attach(self, gate: Gate) -> None:
        """Switch no guild's route while `gate` has anything of it in flight."""
        if self._follower is not None:
            self._follower.attach(gate)

    def heard(self, routes: Mapping[str, Route | None], as_of: float) -> None:
        """Take what a fence tells; see `RouteFence`."""
        if self._follower is not None:
            self._follower.fence(routes, as_of)

    @property
    def current_table(self) -> RouteTable | None:
        """The table while it is current, else None."""
        follower = self._follower
        return follower.table if follower is not None and follower.current else None

    @property
    def loaded(self) -> bool:
        """True once a full table was read."""
        return self._follower is not None and self._follower.table is not None

    @property
    def trouble(self) -> str:
        """Why the table is not current, as a short sentence; "" while it is."""
        return self._follower.trouble if self._follower is not None else ""

    async def lookup(self, guild_id: str) -> Route | None:
        """Where one guild's events go now; None is production. Raises as `resolve`."""
        return (await self.resolve((guild_id,))).route(guild_id, self._now())

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable:
        """A table that is right for these guilds now.

        Raises `DependencyUnavailable` when no tier knows: the events must wait.
        """
        table = self.current_table
        if table is not None:
            self._metrics.table_lookups += len(guild_ids)
            return table
        started = self._monotonic()
        try:
            # Only ids that can be mapped are asked for: no frame may form a key of its own.
            return await self._resolve_behind([guild_id for guild_id in guild_ids if is_guild_id(guild_id)])
        finally:
            self._metrics.lookup_seconds.observe(self._monotonic() - started)

    async def _resolve_behind(self, guild_ids: Collection[str]) -> RouteTable:
        # A fence comes with each change, also of one whose new route could not be written to Redis.
        found = self._follower.heard_of(guild_ids) if self._follower is not None else {}
        found |= await self._cached([guild_id for guild_id in guild_ids if guild_id not in found])
        missing = [guild_id for guild_id in guild_ids if guild_id not in found]
        last = self._follower.table if self._follower is not None else None
        if not missing:
            return RouteTable(_only_routes(found))
        try:
            rows = await self._read(missing)
        except DependencyUnavailable:
            if last is None:
                self._metrics.lookup("none", "unknown", len(missing))
                raise
            self._metrics.lookup("last_table", "hit", len(missing))
            return last.with_changes(found)
        return RouteTable(_only_routes(found | rows))

    async def _cached(self, guild_ids: Collection[str]) -> dict[str, Route | None]:
        if not guild_ids or self._monotonic() < self._rest_until["redis"]:
            return {}
        try:
            async with asyncio.timeout(_CACHE_TIMEOUT):
                found = await self._cache.get_many(guild_ids)
        except (DependencyUnavailable, TimeoutError):
            self._failed("redis", len(guild_ids))
            return {}
        self._metrics.lookup("redis", "hit", len(found))
        self._metrics.lookup("redis", "miss", len(guild_ids) - len(found))
        return found

    async def _read(self, guild_ids: Collection[str]) -> dict[str, Route | None]:
        if self._monotonic() < self._rest_until["postgres"]:
            raise DependencyUnavailable("PostgreSQL", "it did not answer a moment ago")
        try:
            rows = await self._rows.read_many(guild_ids)
        except DependencyUnavailable:
            self._failed("postgres", len(guild_ids))
            raise
        self._metrics.lookup("postgres", "hit", len(rows))
        await self._store(rows, only_if_absent=True)
        return rows

    def _failed(self, tier: str, count: int) -> None:
        self._metrics.lookup(tier, "error", count)
        self._rest_until[tier] = self._monotonic() + _REST_AFTER_FAILURE

    async def _store(self, routes: Mapping[str, Route | None], *, only_if_absent: bool) -> bool:
        if self._monotonic() < self._rest_until["redis"] and only_if_absent:
            return False
        try:
            async with asyncio.timeout(_CACHE_TIMEOUT):
                await self._cache.put_many(routes, only_if_absent=only_if_absent)
        except (DependencyUnavailable, TimeoutError):
            self._failed("redis", len(routes))
            return False
        return True

    # Changes

    async def guilds_changed(self, routes: Mapping[str, Route | None]) -> Switch:
        """Make committed changes take effect; returns when every gateway process routes accordingly.

        A process that does not say so in time is named in the result. It publishes nothing of these guilds
        by an older route: it has stopped them, or no longer trusts its table and asks Redis, which is
        written first, and what was told over NATS. Redis being away delays nothing: its keys are written as
        soon as it is back.
        """
        try:
            committed, as_of = await self._rows.read_as_of(routes.keys())
        except DependencyUnavailable:
            committed, as_of = dict(routes), self._now()
        if self._fence is not None:
            await self._fence.tell(committed, as_of)
        await self._publish(committed)
        _, switch = await asyncio.gather(self._switch(committed), self._ask(committed.keys()))
        return switch

    async def _switch(self, routes: Mapping[str, Route | None]) -> None:
        if self._follower is None:
            return
        try:
            async with asyncio.timeout(_SWITCH_TIMEOUT):
                await self._follower.refresh(routes.keys())
        except (DependencyUnavailable, TimeoutError):
            self._follower.fence(routes, self._now())

    async def _ask(self, guild_ids: Collection[str]) -> Switch:
        if self._processes is None:
            return Switch()
        try:
            return await self._processes.ask(guild_ids)
        except DependencyUnavailable as error:
            # The change is committed, and without PostgreSQL no process goes on trusting its table for long.
            _log.warning("switch_not_asked", dependency=error.dependency, reason=error.reason)
            await self._sleep(UNTRUSTED_AFTER)
            return Switch()

    async def _publish(self, routes: Mapping[str, Route | None]) -> None:
        for guild_id in routes:
            self._unwritten.pop(guild_id, None)
        if not await self._store(routes, only_if_absent=False):
            self._unwritten.update(routes)
            _log.warning("route_cache_write_delayed", dependency="Redis", guilds=len(routes))
            if self._writer is None or self._writer.done():
                self._writer = asyncio.get_running_loop().create_task(
                    self._write_later(), name="route-cache-writer"
                )

    async def _write_later(self) -> None:
        while self._unwritten:
            await asyncio.sleep(_RETRY_PAUSE)
            batch = dict(self._unwritten)
            if await self._store(batch, only_if_absent=False):
                for guild_id, route in batch.items():
                    if self._unwritten.get(guild_id) == route:
                        self._unwritten.pop(guild_id, None)

    # The cache as such

    async def warm(self) -> int:
        """Put every route into Redis; returns how many. Raises `DependencyUnavailable`."""
        rows = await self._rows.read_all()
        await self._cache.put_many(rows, only_if_absent=False)
        return len(rows)

    async def invalidate(self, guild_id: str) -> None:
        """Forget what Redis holds of one guild. Raises `DependencyUnavailable`."""
        await self._cache.invalidate((guild_id,))

    async def invalidate_sandbox(self, sandbox_id: str) -> int:
        """Forget what Redis holds of a sandbox's guilds; returns how many. Raises `DependencyUnavailable`."""
        table = self.current_table or RouteTable(await self._rows.read_all())
        guild_ids = list(table.guilds_of(sandbox_id))
        await self._cache.invalidate(guild_ids)
        return len(guild_ids)

    def statistics(self) -> dict[str, int | bool]:
        """Look-ups by tier and result, the table's size, and whether it is current."""
        follower = self._follower
        counts: dict[str, int | bool] = {
            f"{tier}_{result}": count for (tier, result), count in sorted(self._metrics.lookups.items())
        }
        counts["table_hit"] = self._metrics.table_lookups
        counts["guilds"] = len(follower.table) if follower is not None and follower.table is not None else 0
        counts["current"] = self.current_table is not None
        return counts


def _only_routes(found: Mapping[str, Route | None]) -> dict[str, Route]:
    return {guild_id: route for guild_id, route in found.items() if route is not None}
