"""Events' sides, told as they come.

Whoever handles events beside the router (a host's own code) can't wait until NATS has taken what came before:
it needs an event's side at once, and the router must then publish the event there and nowhere else. So the
side is decided on arrival, by the table that is current then. Where that can't be, because the guild is being
switched or its route is not known, the event waits, and what comes later of the guild waits behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sandbox_core.events import Frame
from sandbox_core.routing import Destination, RouteTable, decide

from .event import GUILDLESS

_NO_ROUTES = RouteTable()

Tell = Callable[[Destination | None], None]
"""Told where an event goes; None when nobody here will ever know."""


class _HasTable(Protocol):
    @property
    def current_table(self) -> RouteTable | None: ...


class _Open(NamedTuple):
    frame: Frame
    tell: Tell


class Verdicts:
    """Decides in order of arrival per lane, and tells each event's side exactly once.

    `may_decide` says of a lane whether its route is not being switched at present; `now` is in seconds since
    the epoch.
    """

    def __init__(
        self, routes: _HasTable, may_decide: Callable[[str], bool], now: Callable[[], float]
    ) -> None:
        self._routes = routes
        self._may_decide = may_decide
        self._now = now
        self._open: dict[str, list[_Open]] = {}

    def take(self, frame: Frame, lane: str, tell: Tell) -> bool:
        """Tell the event's side now, and return True, or keep the event until `settle` gives its routes."""
        if lane == GUILDLESS:
            tell(decide(frame, _NO_ROUTES, self._now()))
            return True
        table = self._routes.current_table
        if table is not None and lane not in self._open and self._may_decide(lane):
            tell(decide(frame, table, self._now()))
            return True
        self._open.setdefault(lane, []).append(_Open(frame, tell))
        return False

    def settle(self, lane: str, table: RouteTable) -> None:
        """What waits of the lane goes by these routes."""
        for frame, tell in self._open.pop(lane, ()):
            tell(decide(frame, table, self._now()))

    def waiting(self) -> list[str]:
        """The lanes with events whose side is not decided, but those that are being switched."""
        return [lane for lane in self._open if self._may_decide(lane)]

    def close(self) -> None:
        """Nothing more is decided: whoever waits is told that nobody knows."""
        for lane in list(self._open):
            for _, tell in self._open.pop(lane):
                tell(None)
