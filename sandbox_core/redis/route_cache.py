"""Cached routes: `sandbox:route:{guild_id}` holds a sandbox id, or `__NULL__` for "mapped to none".

Beside it `sandbox:route-moment:{guild_id}` tells as of which moment of the database's that was read, when it
expires, and once more what it is: a moment counts only for the value that it was written with, whoever else
writes or removes the first key.

An older route never replaces a later one, however late its writer comes: the moments are compared where they
are kept. A moment that is still to come is nobody's, and counts as not known: else it would win over what
PostgreSQL says, and keep that from being written. A route whose moment is not known replaces any when it is
told of a change, and none when it was only read. A key never outlives its route.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

from sandbox_core import subjects
from sandbox_core.models import DatedRoute, Route
from sandbox_core.moments import MARGIN, is_past

from .errors import translating

if TYPE_CHECKING:
    from redis.asyncio import Redis

# Long after the route itself has gone, a writer that comes late has to be told from one that comes in time.
_MOMENT_OUTLIVES_MS = 600_000
_ROUTES_PER_CALL = 500

# Keys come in pairs, the route's and its moment's; for each pair there are four arguments: the moment, what
# the second key is to hold, the route's value, and its life in milliseconds.
PUT_SCRIPT = """
local only_read, moment_life, latest = ARGV[1] == '1', ARGV[2], tonumber(ARGV[3])
for i = 1, #KEYS, 2 do
  local first = 2 * i + 2
  local moment = tonumber(ARGV[first])
  local route, note = redis.pcall('GET', KEYS[i]), redis.pcall('GET', KEYS[i + 1])
  local kept, noted
  if type(note) == 'string' then
    kept, noted = string.match(note, '^(%S+) %S+ (%S+)$')
    kept = tonumber(kept)
    if kept and not (kept <= latest) then
      kept = nil
    end
  end
  local undated = type(route) == 'string' and route ~= noted
  local later = not (kept and moment) or moment >= kept
  if later and not (only_read and undated) then
    redis.call('SET', KEYS[i], ARGV[first + 2], 'PX', ARGV[first + 3])
    if moment then
      redis.call('SET', KEYS[i + 1], ARGV[first + 1], 'PX', moment_life)
    else
      redis.call('DEL', KEYS[i + 1])
    end
  end
end
"""


class RouteCache:
    """Reads and writes cached routes. Every method raises `DependencyUnavailable` when Redis is away."""

    def __init__(
        self,
        redis: Redis,
        ttl: timedelta,
        *,
        now: Callable[[], float] = time.time,
        database_now: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`ttl` bounds the life of a key; `now` is in seconds since the epoch.

        So is `database_now`, the database's time; None while it is not known.
        """
        self._redis = redis
        self._put = redis.register_script(PUT_SCRIPT)
        self._ttl_ms = int(ttl.total_seconds() * 1000)
        self._now = now
        self._database_now = database_now

    async def get_many(self, guild_ids: Iterable[str]) -> dict[str, DatedRoute]:
        """What is cached of these guilds, in one MGET; a guild that is not cached is left out.

        A route whose moment is not known has no expiry either: it holds for the present batch only.
        """
        wanted = list(guild_ids)
        if not wanted:
            return {}
        keys = list(chain.from_iterable(map(_keys, wanted)))
        with translating():
            values = await self._redis.mget(keys)
        latest = self._latest()
        found: dict[str, DatedRoute] = {}
        for guild_id, value, note in zip(wanted, values[::2], values[1::2], strict=True):
            route = str(value)
            # Whatever else stands there is nobody's route: PostgreSQL is asked.
            if route == subjects.ROUTE_NULL or subjects.is_sandbox_id(route):
                found[guild_id] = _read(route, str(note), latest)
        return found

    def _latest(self) -> float:
        """The time at present: what is said to be later is not believed."""
        told = self._database_now()
        return self._now() if told is None else told

    async def put_many(self, routes: Mapping[str, DatedRoute], *, only_read: bool = False) -> None:
        """Cache these routes, where nothing later is cached.

        With `only_read` they were come upon and not changed: a route of an unknown moment is left alone.
        """
        now = self._now()
        # What was read a moment ago tells the database's time, too.
        latest = max(self._latest(), *(dated.as_of for dated in routes.values()), 0.0) + MARGIN
        guild_ids = list(routes)
        for start in range(0, len(guild_ids), _ROUTES_PER_CALL):
            batch = guild_ids[start : start + _ROUTES_PER_CALL]
            arguments: list[str | int] = [*(int(only_read), self._ttl_ms + _MOMENT_OUTLIVES_MS, repr(latest))]
            for guild_id in batch:
                arguments += self._arguments(routes[guild_id], now)
            with translating():
                await self._put(list(chain.from_iterable(map(_keys, batch))), arguments)

    def _arguments(self, dated: DatedRoute, now: float) -> Sequence[str | int]:
        route = dated.route
        remaining = self._ttl_ms if route is None else int((route.expires_at - now) * 1000)
        if route is None or remaining <= 0:
            value, expires_at, life = subjects.ROUTE_NULL, math.inf, self._ttl_ms
        else:
            value, expires_at, life = route.sandbox_id, route.expires_at, min(self._ttl_ms, remaining)
        moment = repr(dated.as_of) if math.isfinite(dated.as_of) else ""
        return (moment, f"{moment} {expires_at!r} {value}", value, life)

    async def invalidate(self, guild_ids: Iterable[str]) -> None:
        """Forget what is cached of these guilds."""
        keys = list(chain.from_iterable(map(_keys, guild_ids)))
        if keys:
            with translating():
                await self._redis.unlink(*keys)


def _keys(guild_id: str) -> tuple[str, str]:
    return subjects.route_key(guild_id), subjects.route_moment_key(guild_id)


def _read(value: str, note: str, now: float) -> DatedRoute:
    moment, _, rest = note.partition(" ")
    expires_at, _, noted = rest.partition(" ")
    try:
        as_of, until = float(moment), float(expires_at)
    except ValueError:
        as_of, until = math.nan, math.nan
    if noted != value or not is_past(as_of, now) or math.isnan(until):
        as_of, until = -math.inf, math.inf
    return DatedRoute(None if value == subjects.ROUTE_NULL else Route(value, until), as_of)
