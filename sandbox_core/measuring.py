"""Measures what sandboxes store where a server can't limit it: one process for all, spread over time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta

import structlog
from prometheus_client import CollectorRegistry, Gauge

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.manager import utc_now
from sandbox_core.models import Sandbox
from sandbox_core.namespaces import Amount, Namespace, Pace
from sandbox_core.postgres import Pool, connected, storage
from sandbox_core.stored import Level, StorageLimit, Stored

_log = structlog.get_logger("sandbox.storage")

EVERY = timedelta(seconds=30)
"""The time from the beginning of one measurement to that of the next."""
_SANDBOX_LABELS, _OTHERS = 20, "other"
"""How many sandboxes, those nearest to their limit, have labels of their own; and that of the rest."""


class Measuring:
    """Measures the stores in turns; several processes may run it at once. Every method raises
    `DependencyUnavailable` when PostgreSQL is away."""

    def __init__(
        self,
        *,
        pool: Pool,
        namespaces: Collection[Namespace],
        limits: Mapping[str, StorageLimit],
        metrics: StorageMetrics | None = None,
        every: timedelta = EVERY,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`pool` is the bot's own database; `limits` are by store, and only those stores are measured."""
        self._pool = pool
        self._namespaces = {each.store: each for each in namespaces}
        self.limits = limits
        self._metrics = metrics
        self._every = every
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._trouble: dict[str, str] = {}

    @property
    def stores(self) -> tuple[str, ...]:
        """The stores that are measured."""
        return tuple(self.limits)

    async def turn(self, store: str) -> float:
        """Measure every running sandbox's part of this store, unless another process does.

        Return the seconds until the next turn. A store that is away is measured at a later one.
        """
        begun = self._monotonic()
        async with connected(self._pool) as connection:
            later = await storage.begin(connection, store, self._clock(), self._every)
            sandboxes = [] if later is not None else await storage.running(connection)
        if later is not None:
            return max(0.0, (later - self._clock()).total_seconds())
        if sandboxes:
            pace = Pace(
                every=self._every.total_seconds() / 3,
                between=lambda: self._go_on(store),
                monotonic=self._monotonic,
                sleep=self._sleep,
            )
            try:
                amounts = await self._namespaces[store].measure(sandboxes, pace)
            except DependencyUnavailable as error:
                self._not_measured(store, error.reason)
                return self._rest(begun)
            if self._trouble.pop(store, None):
                _log.info("sandbox_storage_measured_again", store=store)
            at, limit = self._clock(), self.limits[store]
            found = [
                (each, _next(each.stored(store), store, amount, at, limit))
                for each in sandboxes
                if (amount := amounts.get(each.id)) is not None
            ]
            for sandbox, stored in found:
                _tell(sandbox, stored, limit)
            async with connected(self._pool) as connection:
                await storage.record(connection, [(each.id, stored) for each, stored in found])
        return self._rest(begun)

    def _rest(self, begun: float) -> float:
        # A server with many keys is not busy with this all the time.
        took = self._monotonic() - begun
        return max(took, self._every.total_seconds() - took)

    def _not_measured(self, store: str, reason: str) -> None:
        # One line for each outage.
        if self._trouble.get(store) != reason:
            _log.warning("sandbox_storage_not_measured", store=store, reason=reason)
        self._trouble[store] = reason

    async def _go_on(self, store: str) -> None:
        async with connected(self._pool) as connection:
            await storage.go_on(connection, store, self._clock())

    async def refresh_gauges(self) -> None:
        """Update the gauges from the last measurements, whoever made them."""
        if self._metrics is not None:
            async with connected(self._pool) as connection:
                sandboxes = await storage.running(connection)
            self._metrics.stored(sandboxes, self.limits, self._clock())


def _next(before: Stored | None, store: str, amount: Amount, at: datetime, limit: StorageLimit) -> Stored:
    if before is None:
        before = Stored(store, 0, 0, at)
    # What can't be measured now, because the sandbox has locked it, has not gone.
    used = max(amount.bytes, before.bytes) if amount.at_least else amount.bytes
    return before.measured(used, amount.items, at, limit)


def _tell(sandbox: Sandbox, stored: Stored, limit: StorageLimit) -> None:
    if stored.since != stored.measured_at:
        return
    say = _log.info if stored.level is Level.ROOM else _log.warning
    say(
        "sandbox_storage_level",
        sandbox_id=str(sandbox.id),
        name=sandbox.name,
        store=stored.store,
        level=stored.level.value,
        before=stored.before.value,
        bytes=stored.bytes,
        items=stored.items,
        limit_bytes=limit.bytes,
    )


class StorageMetrics:
    """The Prometheus metrics of what sandboxes store."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bytes = Gauge(
            "sandbox_storage_bytes",
            "What sandboxes store, as measured last; those nearest to their limit, and the others together",
            ["store", "sandbox"],
            registry=registry,
        )
        self._levels = Gauge(
            "sandbox_storage_sandboxes",
            "Sandboxes by how near they are to what they may store",
            ["store", "level"],
            registry=registry,
        )
        self._measured = Gauge(
            "sandbox_storage_measured_age_seconds",
            "How long ago the running sandbox was measured whose measurement is the oldest",
            ["store"],
            registry=registry,
        )

    def stored(
        self, sandboxes: Collection[Sandbox], limits: Mapping[str, StorageLimit], now: datetime
    ) -> None:
        """Set the gauges for these running sandboxes."""
        self._bytes.clear()
        for store, limit in limits.items():
            found = [(each, stored) for each in sandboxes if (stored := each.stored(store)) is not None]
            found.sort(key=lambda each: (-limit.share(each[1].bytes, each[1].items), each[0].id))
            for sandbox, stored in found[:_SANDBOX_LABELS]:
                self._bytes.labels(store=store, sandbox=sandbox.short_id).set(stored.bytes)
            rest = sum(stored.bytes for _, stored in found[_SANDBOX_LABELS:])
            self._bytes.labels(store=store, sandbox=_OTHERS).set(rest)
            for level in Level:
                number = sum(stored.level is level for _, stored in found)
                self._levels.labels(store=store, level=level.value).set(number)
            moments = [
                each.created_at if (stored := each.stored(store)) is None else stored.measured_at
                for each in sandboxes
            ]
            age = (now - min(moments)).total_seconds() if moments else 0.0
            self._measured.labels(store=store).set(max(0.0, age))
