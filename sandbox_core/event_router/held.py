"""Asking for routes nobody knows yet, for as long as events wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

import structlog

from sandbox_core import cancellation
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
        self._task: asyncio.Task[None] | None = None
        self.obstacle = ""
        """Why there is no answer, naming the dependency; "" while nothing is known to be wrong."""

    def ask(self) -> None:
        """A lane waits."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._ask_all(), name="router-held")

    def void(self, lanes: Collection[str]) -> None:
        """These lanes' routes are being switched: the answer to a question from before is no longer one."""
        self._asked.difference_update(lanes)

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            await cancellation.end(self._task)

    async def _ask_all(self) -> None:
        while lanes := self._waiting():
            batch = lanes[:_BATCH]
            self._asked = set(batch)
            try:
                table = await self._routes.resolve(batch)
                for lane in batch:
                    if lane in self._asked:
                        self._settle(lane, table)
                if self.obstacle:
                    _log.info("events_released", lanes=len(self._asked))
                    self.obstacle = ""
            except DependencyUnavailable as error:
                if not self.obstacle:
                    _log.warning("events_held", dependency=error.dependency, reason=error.reason)
                self.obstacle = f"{error.dependency}: {error.reason}"
                await asyncio.sleep(_PAUSE)
            except Exception:
                # Whatever it is: without this task the events would wait for ever, and nobody would know.
                _log.exception("held_events_not_settled", lanes=len(batch))
                self.obstacle = self.obstacle or "their routes: an internal error, see the log"
                await asyncio.sleep(_PAUSE)
        # Also when those that waited are another process's by now.
        self.obstacle = ""
