"""Asks for the routes of lanes whose route nobody here knows, for as long as events wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.routing import RouteTable, TrustedTable
from sandbox_core.tasks import OnDemand

from .lane import Lane, LaneState

_log = structlog.get_logger("sandbox.router")

_PAUSE = 0.25
_BATCH = 1000


class Routes(Protocol):
    """Where the router learns the routes; see `RouteProvider`."""

    @property
    def trusted(self) -> TrustedTable: ...

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable: ...


class RouteQuestions:
    """Asks until no lane waits, and gives `answered` each lane with the table that is right for it."""

    def __init__(self, routes: Routes, answered: Callable[[Lane, RouteTable], None]) -> None:
        self._routes = routes
        self._answered = answered
        self._waiting: dict[Lane, None] = {}
        """Lanes to ask for, in the order in which they came."""
        self._asked: set[Lane] = set()
        """Lanes that are being asked for, and were not switched meanwhile."""
        self._asking = OnDemand(self._ask_all, "route-questions")
        self._turned = asyncio.Event()
        """Set when some have an answer, or none."""
        self.obstacle = ""
        """Why there is no answer, naming the dependency; "" while nothing is known to be wrong."""

    def ask(self, lane: Lane) -> None:
        """The lane's events wait for its route."""
        self._waiting[lane] = None
        self._asking.begin()

    def void(self, lane: Lane) -> None:
        """The lane's route is being switched: the answer to a question from before is no longer one."""
        self._asked.discard(lane)

    async def over(self, lanes: Collection[Lane]) -> None:
        """Return when none of these lanes waits for an answer."""
        while any(map(_waits, lanes)):
            self._turned.clear()
            await self._turned.wait()

    async def close(self) -> None:
        """Ask no more."""
        await self._asking.close()

    async def _ask_all(self) -> None:
        while batch := self._next():
            self._asked = set(batch)
            try:
                table = await self._routes.resolve([lane.guild_id for lane in batch])
                for lane in batch:
                    if lane in self._asked:
                        self._answered(lane, table)
                if self.obstacle:
                    _log.info("events_released", lanes=len(self._asked))
                    self.obstacle = ""
            except DependencyUnavailable as error:
                if not self.obstacle:
                    _log.warning("events_held", dependency=error.dependency, reason=error.reason)
                self.obstacle = error.named_reason
                await asyncio.sleep(_PAUSE)
            except Exception:
                # Whatever it is: without this task the events would wait for ever, and nobody would know.
                _log.exception("held_events_not_answered", lanes=len(batch))
                self.obstacle = self.obstacle or "their routes: an internal error, see the log"
                await asyncio.sleep(_PAUSE)
            self._turned.set()
        # Also when those that waited are another process's by now.
        self.obstacle = ""

    def _next(self) -> list[Lane]:
        """Some of the lanes that still wait; one that is being switched asks anew when that is over."""
        self._waiting = {lane: None for lane in self._waiting if _waits(lane)}
        return list(self._waiting)[:_BATCH]


def _waits(lane: Lane) -> bool:
    return lane.state is LaneState.UNKNOWN or (lane.has_untold and not lane.paused)
