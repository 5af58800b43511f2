"""Guild to sandbox: the in-process table, behind it Redis, then PostgreSQL, then the last table known."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import NOBODY_ASKED, DatedRoute, Route, Switch
from sandbox_core.moments import is_past
from sandbox_core.nats.route_announcements import RouteAnnouncements
from sandbox_core.postgres.routes import RouteRows
from sandbox_core.postgres.switches import UNTRUSTED_AFTER, SwitchRequests
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.routing import RouteTable, TrustedTable
from sandbox_core.subjects import is_guild_id

from .cache_writer import CACHE_TIMEOUT, CacheWriter
from .follower import RouteFollower, later
from .switch import Gate

_log = structlog.get_logger("sandbox.routes")

_SWITCH_TIMEOUT = 2.0
_SETTLED_WITHIN = 2.0
# After a failure a tier is left alone for this long, so that an outage costs one time-out and not one
# for each batch of events.
_REST_AFTER_FAILURE = 1.0


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
        processes: SwitchRequests | None = None,
        announcements: RouteAnnouncements | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rows = rows
        self._cache = cache
        self._metrics = metrics
        self._follower = follower
        self._processes = processes
        self._announcements = announcements
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._rest_until = {"redis": 0.0, "postgres": 0.0}
        self._postgres_failure: DependencyUnavailable | None = None
        self._writer = CacheWriter(cache)
        self.trusted = TrustedTable() if follower is None else follower.trusted
        """The in-process table, and until when it is right."""
        if follower is not None:
            follower.on_read = self._writer.write_soon

    def start(self) -> None:
        """Begin to follow changes; returns at once."""
        if self._follower is not None:
            self._follower.start()

    async def close(self) -> None:
        """Stop following."""
        if self._follower is not None:
            await self._follower.close()
        await self._writer.close()

    def attach(self, gate: Gate) -> None:
        """Switch no guild's route while `gate` has anything of it in flight."""
        if self._follower is not None:
            self._follower.attach(gate)

    def heard(self, routes: Mapping[str, Route | None], as_of: float) -> None:
        """Take what another process announces; see `RouteAnnouncements`.

        What is said to be of a time still to come is not: it would be believed for ever.
        """
        if self._follower is None:
            return
        now = self._follower.database_now()
        if not is_past(as_of, self._now() if now is None else now):
            _log.debug("route_announcement_not_believed", guilds=len(routes))
            return
        dated = _dated(routes, as_of)
        self._follower.announced(dated)
        if not self._follower.current:
            # Who tells it may die before Redis has taken it from there.
            self._writer.write_soon(dated)

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
        found = await self._found(guild_ids)
        own = self._known(guild_ids)
        # Who knew something later than what is found keeps to it: Redis may come back with an old route.
        found = {
            guild_id: dated
            for guild_id, dated in found.items()
            if guild_id not in own or dated.as_of >= own[guild_id].as_of
        }
        missing = [guild_id for guild_id in guild_ids if guild_id not in found]
        if missing:
            try:
                found |= await self._read(missing)
            except DependencyUnavailable:
                own = self._known(missing)
                if not own.keys() >= set(missing):
                    self._metrics.lookup("none", "unknown", len(missing))
                    raise
                self._metrics.lookup("last_table", "hit", len(missing))
                found |= own
        if self._follower is not None:
            self._follower.learn(found)
        return RouteTable({guild_id: d.route for guild_id, d in found.items() if d.route is not None})

    def _known(self, guild_ids: Collection[str]) -> dict[str, DatedRoute]:
        if self._follower is None:
            return {}
        known = {guild_id: self._follower.known(guild_id) for guild_id in guild_ids}
        return {guild_id: dated for guild_id, dated in known.items() if dated is not None}

    async def _found(self, guild_ids: Collection[str]) -> dict[str, DatedRoute]:
        """What others say: in Redis, or over NATS when the new route could not be written to Redis."""
        found = await self._cached(guild_ids)
        if self._follower is not None:
            for guild_id in guild_ids:
                said = later(self._follower.told(guild_id), found.get(guild_id))
                if said is not None:
                    found[guild_id] = said
        return found

    async def _cached(self, guild_ids: Collection[str]) -> dict[str, DatedRoute]:
        if not guild_ids or self._monotonic() < self._rest_until["redis"]:
            return {}
        try:
            async with asyncio.timeout(CACHE_TIMEOUT):
                found = await self._cache.get_many(guild_ids)
        except (DependencyUnavailable, TimeoutError):
            self._failed("redis", len(guild_ids))
            return {}
        self._metrics.lookup("redis", "hit", len(found))
        self._metrics.lookup("redis", "miss", len(guild_ids) - len(found))
        return found

    async def _read(self, guild_ids: Collection[str]) -> dict[str, DatedRoute]:
        if self._postgres_failure is not None and self._monotonic() < self._rest_until["postgres"]:
            # Nobody waits for the same outage again.
            raise self._postgres_failure.with_traceback(None)
        try:
            rows = _dated(*await self._rows.read_as_of(guild_ids))
        except DependencyUnavailable as error:
            self._failed("postgres", len(guild_ids))
            self._postgres_failure = error
            raise
        self._metrics.lookup("postgres", "hit", len(rows))
        await self._store(rows)
        return rows

    def _failed(self, tier: str, count: int) -> None:
        self._metrics.lookup(tier, "error", count)
        self._rest_until[tier] = self._monotonic() + _REST_AFTER_FAILURE

    async def _store(self, rows: Mapping[str, DatedRoute]) -> None:
        if self._monotonic() < self._rest_until["redis"]:
            return
        try:
            async with asyncio.timeout(CACHE_TIMEOUT):
                await self._cache.put_many(rows, only_read=True)
        except (DependencyUnavailable, TimeoutError):
            self._failed("redis", len(rows))

    # Changes

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Return when every event of these guilds that came to this process by now has its side.

        An event waits for it after the process stood still, or PostgreSQL was silent, for seconds. Raises
        `DependencyUnavailable` when it still waits after two.
        """
        if self._follower is None:
            return
        try:
            async with asyncio.timeout(_SETTLED_WITHIN):
                await self._follower.settled(guild_ids)
        except TimeoutError:
            problem = self.trouble or "it is not known yet where earlier events of the server go"
            raise DependencyUnavailable("PostgreSQL", problem) from None

    async def guilds_changed(self, routes: Mapping[str, Route | None]) -> Switch:
        """Make committed changes take effect; returns when every gateway process routes accordingly.

        A process that does not say so in time is named in the result. It publishes nothing of these guilds
        by an older route: it has stopped them, or no longer trusts its table and asks Redis, which is
        written first, and what was told over NATS. Redis being away delays nothing: its keys are written as
        soon as it is back.
        """
        moment: float | None
        try:
            committed, moment = await self._rows.read_as_of(routes.keys())
        except Exception as error:
            # Any error: the change is committed.
            if not isinstance(error, DependencyUnavailable):
                _log.exception("routes_not_read_again", guilds=len(routes))
            committed = dict(routes)
            moment = None if self._follower is None else self._follower.database_now()
        # Only the database's time may stand in Redis, where it decides what replaces what.
        written = _dated(committed, -math.inf if moment is None else moment)
        told_as_of = self._now() if moment is None else moment
        if self._announcements is not None:
            with tasks.after_commit("announcement"):
                await self._announcements.tell(committed, told_as_of)
        await self._writer.write(written)
        switched = self._switch(_dated(committed, told_as_of))
        _, switch = await asyncio.gather(switched, self._ask(committed.keys()))
        return switch

    async def _switch(self, routes: Mapping[str, DatedRoute]) -> None:
        if self._follower is None:
            return
        try:
            async with asyncio.timeout(_SWITCH_TIMEOUT):
                await self._follower.refresh(routes.keys())
        except Exception as error:
            # Any error: what is committed is told, and read when the link stands again.
            if not isinstance(error, DependencyUnavailable | TimeoutError):
                _log.exception("routes_not_switched", guilds=len(routes))
            self._follower.announced(routes)

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
        except Exception:
            # Any error: the change is committed, and the processes read it by themselves.
            _log.exception("switch_not_asked", guilds=len(guild_ids))
            await self._sleep(UNTRUSTED_AFTER)
            return Switch(unconfirmed=(NOBODY_ASKED,))

    # The cache as such

    async def warm(self) -> int:
        """Put every route into Redis; returns how many. Raises `DependencyUnavailable`."""
        rows, as_of = await self._rows.read_all()
        await self._cache.put_many(_dated(rows, as_of))
        return len(rows)

    async def invalidate(self, guild_id: str) -> None:
        """Forget what Redis holds of one guild. Raises `DependencyUnavailable`."""
        await self._cache.invalidate((guild_id,))

    async def invalidate_sandbox(self, sandbox_id: str) -> int:
        """Forget what Redis holds of a sandbox's guilds; returns how many. Raises `DependencyUnavailable`."""
        table = self.current_table or RouteTable((await self._rows.read_all())[0])
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


def _dated(routes: Mapping[str, Route | None], as_of: float) -> dict[str, DatedRoute]:
    return {guild_id: DatedRoute(route, as_of) for guild_id, route in routes.items()}
