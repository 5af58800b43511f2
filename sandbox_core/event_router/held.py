"""Asking for routes nobody knows yet, for as long as events wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.routing import RouteTable

_log = structlog.get_logger("sandbox.router")

_PAUSE = 0.25
_BATCH = 1000


class Routes(Protocol):
    """Where the router learns the routes; see `RouteProvider`."""

    @property
    def current_table(self) -> RouteTable | None: ...

    async def resolve(self, guild_ids: Collection[str]) -> RouteTable: ...


class RouteQuestions:
    """Asks for the routes of the lanes in `waiting` until there are none, and tells `settle` each answer.

    `settle` gets a lane and the table to decide by.
    """

    def __init__(
        self,
        routes: Routes,
        waiting: Callable[[], list[str]],
        settle: Callable[[str, RouteTable], None],
    ) -> None:
        self._routes = routes
        self._waiting = waiting
        self._settle = settle
        self._asked: set[str] = set()
        """Lanes whose route is being asked for, and was not switched meanwhile."""
        self._asking = tasks.OnDemand(self._ask_all, "router-held")
        self.obstacle = ""
        """Why there is no answer, naming the dependency; "" while nothing is known to be wrong."""

    def ask(self) -> None:
        """A lane waits."""
        self._asking.begin()

    def void(self, lanes: Collection[str]) -> None:
        """These lanes' routes are being switched: the answer to a question from before is no longer one."""
        self._asked.difference_update(lanes)

    async def close(self) -> None:
        """Ask no more."""
        await self._asking.close()

    async def _ask_all(self) -> None:
        def failed() -> None:
            _log.exception("held_events_not_settled", lanes=len(self._asked))
            self.obstacle = self.obstacle or "their routes: an internal error, see the log"

        await tasks.repeat(self._ask_some, failed=failed, pause=_PAUSE, while_=self._waiting)
        # Also when those that waited are another process's by now.
        self.obstacle = ""

    async def _ask_some(self) -> None:
        batch = self._waiting()[:_BATCH]
        self._asked = set(batch)
        try:
            table = await self._routes.resolve(batch)
        except DependencyUnavailable as error:
            if not self.obstacle:
                _log.warning("events_held", dependency=error.dependency, reason=error.reason)
            self.obstacle = f"{error.dependency}: {error.reason}"
            await asyncio.sleep(_PAUSE)
            return
        for lane in batch:
            if lane in self._asked:
                self._settle(lane, table)
        if self.obstacle:
            _log.info("events_released", lanes=len(self._asked))
            self.obstacle = ""
