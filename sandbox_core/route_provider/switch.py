"""The in-process route table, and the exact switch of a guild from one route to the next.

From the moment on which a guild's route is known to have changed, its route is unknown: nothing that comes
of it is published. Its committed route is read; what had come before is published where it belonged and
waited for; the resume points are saved; the table changes; and if nothing has changed again meanwhile, the
guild goes on. Other guilds never wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import DatedRoute, Route
from sandbox_core.routing import RouteTable, TrustedTable

from .freshness import Freshness

_log = structlog.get_logger("sandbox.routes")


class Gate(Protocol):
    """What publishes, and can be kept from it guild by guild; see `EventRouter`."""

    on_drained: Callable[[], None]

    def pause(self, guild_ids: Collection[str]) -> None: ...

    def keep_side(self, guild_ids: Collection[str]) -> None: ...

    def in_flight(self, guild_id: str) -> bool: ...

    async def settled(self, guild_ids: Collection[str]) -> None: ...

    def resume(self, guild_ids: Collection[str]) -> None: ...

    async def about_to_switch(self) -> None: ...


class OpenGate:
    """Nothing is published."""

    def __init__(self) -> None:
        self.on_drained: Callable[[], None] = lambda: None

    def pause(self, guild_ids: Collection[str]) -> None:
        """There is nothing to pause."""

    def keep_side(self, guild_ids: Collection[str]) -> None:
        """There is nothing on its way."""

    def in_flight(self, guild_id: str) -> bool:
        """Nothing ever is."""
        return False

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Nothing waits."""

    def resume(self, guild_ids: Collection[str]) -> None:
        """There is nothing to resume."""

    async def about_to_switch(self) -> None:
        """There is nothing to prepare."""


class RouteSwitch:
    """Holds the table, and moves it from one committed truth to the next."""

    def __init__(self) -> None:
        self.trusted = TrustedTable()
        """The table; whoever knows how long it can be trusted writes that into it."""
        self._freshness = Freshness()
        self._gate: Gate = OpenGate()
        self._unread: set[str] = set()
        self._reading: set[str] = set()
        self._pending: dict[str, Route | None] = {}
        """Routes that were read and wait for what is in flight."""
        self._waiting: list[tuple[frozenset[str], asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._switching = tasks.OnDemand(self._switch_drained, "route-switch")

    @property
    def table(self) -> RouteTable | None:
        """The last table known; None before the first full read."""
        return self.trusted.table

    def attach(self, gate: Gate) -> None:
        """Switch no guild while this has anything of it in flight."""
        self._gate = gate
        gate.on_drained = self._wake.set

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Return when no event of these guilds waits for its side."""
        await self._gate.settled(guild_ids)

    async def close(self) -> None:
        """Switch nothing more."""
        await self._switching.close()

    def changed(self, guild_ids: Collection[str]) -> None:
        """These guilds' routes may have changed; nothing of them is published until they are known again."""
        if guild_ids:
            self._gate.pause(guild_ids)
            self._freshness.doubted(guild_ids)
            self._unread.update(guild_ids)

    def known(self, guild_id: str) -> DatedRoute | None:
        """The guild's route, as of when it is known for certain; None before the first full read."""
        if self.table is None:
            return None
        pending = self._pending
        route = pending[guild_id] if guild_id in pending else self.table.entry(guild_id)
        return DatedRoute(route, self._freshness.of(guild_id))

    def confirmed(self, moment: float) -> None:
        """PostgreSQL answered at that moment of its own, and has told all that was committed before."""
        self._freshness.confirmed(moment, self._unread | self._reading)

    def when_known(self, guild_ids: Collection[str]) -> asyncio.Future[None]:
        """Done when the table shows what is committed now of these guilds, and nothing older is in flight.

        Raises `DependencyUnavailable` when the link is lost before.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not guild_ids:
            done.set_result(None)
            return done
        self.changed(guild_ids)
        self._waiting.append((frozenset(guild_ids), done))
        return done

    @property
    def unknown(self) -> frozenset[str]:
        """The guilds whose routes are not what PostgreSQL says, or may not be."""
        return frozenset(self._unread | self._reading | self._pending.keys())

    @property
    def to_read(self) -> bool:
        """True when there are guilds whose routes have to be read."""
        return bool(self._unread)

    def begin_reading(self) -> Collection[str]:
        """The guilds whose routes are to be read now; tell them with `were_read`."""
        self._reading, self._unread = self._unread, set()
        return self._reading

    def were_read(self, routes: Mapping[str, Route | None], moment: float) -> None:
        """The committed routes of the guilds that `begin_reading` gave, read later than at that moment."""
        self._reading = set()
        self._freshness.read(routes.keys(), moment)
        self._go_to(routes)

    def load(self, table: RouteTable, moment: float) -> Mapping[str, Route | None]:
        """A full read, later than at that moment: those on another side than before, by an exact switch.

        Returns these with their new routes; none when it is the first.
        """
        self._freshness.loaded(moment, self._unread | self._reading)
        if self.table is None:
            self.trusted.table = table
            return {}
        switched = self.table.other_sides(table)
        self._gate.pause(switched.keys())
        before = self.table
        self.trusted.table = table.with_changes({guild_id: before.entry(guild_id) for guild_id in switched})
        self._go_to(switched)
        return switched

    def put(self, routes: Mapping[str, Route | None]) -> None:
        """Change the table at once, for what is known to be committed while the link is down."""
        if self.table is None:
            return
        table = self.table
        news = {guild: route for guild, route in routes.items() if table.entry(guild) != route}
        if news:
            self._gate.keep_side(news)
            self.trusted.table = table.with_changes(news)

    def abandon(self) -> None:
        """The link is lost: what was read takes effect, and nothing is waited for any more."""
        self.put(self._pending)
        unknown = self._unread | self._reading | self._pending.keys()
        self._unread, self._reading, self._pending = set(), set(), {}
        self._gate.resume(unknown)
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            if not done.done():
                done.set_exception(DependencyUnavailable("PostgreSQL", "the connection was lost"))

    def _go_to(self, routes: Mapping[str, Route | None]) -> None:
        if self.table is None:
            return
        same = {guild: route for guild, route in routes.items() if self.table.same_side(guild, route)}
        for guild_id in routes:
            # An older route of it that waits is not worth switching to any more.
            self._pending.pop(guild_id, None)
        self._pending.update((guild, route) for guild, route in routes.items() if guild not in same)
        self._take_effect(same)
        if self._pending:
            self._wake.set()
            self._switching.begin()

    async def _switch_drained(self) -> None:
        while self._pending:
            drained = [guild_id for guild_id in self._pending if not self._gate.in_flight(guild_id)]
            if drained:
                try:
                    await self._gate.about_to_switch()
                except Exception:
                    # Whatever it was: a point that is not saved only makes a replay longer, and the guilds
                    # must not stay stopped for it.
                    _log.exception("switch_not_prepared", guilds=len(drained))
                # Meanwhile one may have become known, gone on, and begun to change again.
                ready = [g for g in drained if g in self._pending and not self._gate.in_flight(g)]
                self._take_effect({guild_id: self._pending.pop(guild_id) for guild_id in ready})
            else:
                await self._wake.wait()
            self._wake.clear()

    def _take_effect(self, routes: Mapping[str, Route | None]) -> None:
        self.put(routes)
        self._gate.resume([guild_id for guild_id in routes if not self._is_unknown(guild_id)])
        self._tell_known()

    def _is_unknown(self, guild_id: str) -> bool:
        return guild_id in self._unread or guild_id in self._reading or guild_id in self._pending

    def _all_known(self, guild_ids: Iterable[str]) -> bool:
        return not any(self._is_unknown(guild_id) for guild_id in guild_ids)

    def _tell_known(self) -> None:
        still: list[tuple[frozenset[str], asyncio.Future[None]]] = []
        for guild_ids, done in self._waiting:
            if done.done():
                continue
            if self._all_known(guild_ids):
                done.set_result(None)
            else:
                still.append((guild_ids, done))
        self._waiting = still
