"""Guilds' events are kept back while their routes change; what is here already goes by the old routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from sandbox_core.routing import RouteTable

from .lane import Event, Lane, Lanes
from .route_questions import RouteQuestions


class Switching:
    """What whoever switches routes tells the router; see `Lane`.

    `start` decides and publishes a lane's first event. `table` gives the routes that can be trusted now;
    `now` is in seconds since the epoch.
    """

    def __init__(
        self,
        lanes: Lanes,
        questions: RouteQuestions,
        *,
        start: Callable[[Event], None],
        table: Callable[[], RouteTable | None],
        now: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._questions = questions
        self._start = start
        self._table = table
        self._now = now
        self.on_drained: Callable[[], None] = _nothing
        """Called when a paused guild has nothing in flight any more."""
        self.before_switch: list[Callable[[], Awaitable[None]]] = []
        """What `about_to_switch` awaits; each limits its own time."""

    def pause(self, guild_ids: Collection[str]) -> None:
        """Publish nothing of these guilds that comes from now on until `resume`."""
        self.keep_side(guild_ids)
        for guild_id in guild_ids:
            lane = self._lanes[guild_id]
            lane.pause()
            self._questions.void(lane)

    def keep_side(self, guild_ids: Collection[str]) -> None:
        """What is here of these guilds goes by the routes as they are now, whatever changes next."""
        table = self._table()
        if table is not None:
            for guild_id in guild_ids:
                if guild_id in self._lanes:
                    self._lanes[guild_id].keep_side(table, self._now())

    def in_flight(self, guild_id: str) -> bool:
        """True while an event of the guild is on its way: published and not acknowledged."""
        return guild_id in self._lanes and self._lanes[guild_id].is_sent

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Return when no event of these guilds waits for an answer to where it goes."""
        await self._questions.over(
            [self._lanes[guild_id] for guild_id in guild_ids if guild_id in self._lanes]
        )

    async def about_to_switch(self) -> None:
        """Save what has to be saved before drained guilds' routes change."""
        for action in self.before_switch:
            await action()

    def resume(self, guild_ids: Collection[str]) -> None:
        """Go on with these guilds, by the routes as they are now."""
        table = self._table()
        lanes = self._present(guild_ids)
        for lane in lanes:
            lane.resume()
        for lane in lanes:
            if table is not None:
                lane.tell_waiting(table, self._now())
            elif lane.has_untold:
                self._questions.ask(lane)
            if lane.first is not None and not lane.is_sent:
                self._start(lane.first)

    def _present(self, guild_ids: Collection[str]) -> list[Lane]:
        return [self._lanes[guild_id] for guild_id in guild_ids if guild_id in self._lanes]


def _nothing() -> None:
    """Nobody switches routes."""
