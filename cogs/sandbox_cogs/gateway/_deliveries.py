"""Holds discord.py's dispatches of one frame until the router has decided who gets them."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from enum import Enum

import structlog

from sandbox_core.routing import Destination, Side

_log = structlog.get_logger("sandbox.gateway")


class Audience(Enum):
    """Which listeners get a frame's dispatches."""

    HOST = "host"
    """All listeners in the bot: the event goes to production."""
    OURS = "ours"
    """Only this project's own listeners and commands: the event is handled here."""
    NOBODY = "nobody"
    """No listener: the event goes to a sandbox, or its guild is unknown."""


Delivery = Callable[[Audience], None]


class Deliveries:
    """The deliveries of one frame. They run in order, as soon as the audience is known."""

    __slots__ = ("_audience", "_waiting", "event")

    def __init__(self, event: str) -> None:
        self.event = event
        """The name of the frame's event, such as MESSAGE_CREATE."""
        self._audience: Audience | None = None
        self._waiting: list[tuple[Context, Delivery]] = []

    @property
    def decided(self) -> bool:
        """Whether the audience is known."""
        return self._audience is not None

    def decide_by(self, destination: Destination | None) -> None:
        """Take the router's decision. None means that the router has ended; then the host gets the frame."""
        self.decide(_audience(destination))

    def decide(self, audience: Audience) -> None:
        """Set the audience, and run the deliveries that waited for it."""
        self._audience = audience
        waiting, self._waiting = self._waiting, []
        for context, deliver in waiting:
            # It runs in the context of the frame's own socket, as without the wait.
            try:
                context.run(deliver, audience)
            except Exception:
                # A parser may raise anything on an unexpected payload. That must not stop the router, and
                # the other deliveries still run.
                _log.exception("dispatch_failed", type=self.event)

    def add(self, deliver: Delivery) -> None:
        """Run this delivery now, or when the audience is known."""
        if self._audience is None:
            self._waiting.append((copy_context(), deliver))
        else:
            deliver(self._audience)


def _audience(destination: Destination | None) -> Audience:
    if destination is None or destination.side is Side.PRODUCTION:
        return Audience.HOST
    return Audience.OURS if destination.side is Side.HANDLED else Audience.NOBODY
