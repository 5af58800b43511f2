"""What discord.py tells of one frame, until it is decided who gets it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from enum import Enum

import structlog

from sandbox_core.routing import Destination, Side

_log = structlog.get_logger("sandbox.gateway")


class Audience(Enum):
    """Who gets what a frame brings."""

    HOST = "host"
    """Everybody in the bot: the event is production's."""
    OURS = "ours"
    """This project's own listeners and commands: the event is handled here."""
    NOBODY = "nobody"
    """The event is a sandbox's, or it can't be told whose it is."""


Delivery = Callable[[Audience], None]


class News:
    """The deliveries of one frame. They are made in their order, as soon as the audience is known."""

    __slots__ = ("_audience", "_waiting", "event")

    def __init__(self, event: str) -> None:
        self.event = event
        """The name of the frame's event."""
        self._audience: Audience | None = None
        self._waiting: list[tuple[Context, Delivery]] = []

    @property
    def decided(self) -> bool:
        """True when it is known who gets it."""
        return self._audience is not None

    def tell(self, destination: Destination | None) -> None:
        """The router has decided; with None it never will, as it has ended: then the host is alone here."""
        self.decide(_audience(destination))

    def decide(self, audience: Audience) -> None:
        """These get it."""
        self._audience = audience
        waiting, self._waiting = self._waiting, []
        for context, deliver in waiting:
            # In the context of the frame's own socket, as if it had not waited.
            try:
                context.run(deliver, audience)
            except Exception:
                # A parser may raise anything at a payload that it does not expect; the router is no place
                # for that, and other frames' news go on.
                _log.exception("news_not_delivered", type=self.event)

    def add(self, deliver: Delivery) -> None:
        """Deliver this to whom it may concern, now or when that is known."""
        if self._audience is None:
            self._waiting.append((copy_context(), deliver))
        else:
            deliver(self._audience)


def _audience(destination: Destination | None) -> Audience:
    if destination is None or destination.side is Side.PRODUCTION:
        return Audience.HOST
    return Audience.OURS if destination.side is Side.HANDLED else Audience.NOBODY
