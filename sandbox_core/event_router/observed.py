"""Observes events on their way: traces, and each routing decision in the log at debug level.

An observer stands between the router and the publisher, and only where there is something to observe:
otherwise an event passes no code of this module.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

import structlog

from sandbox_core.events import Frame
from sandbox_core.metrics import Drop
from sandbox_core.nats.publication import Publication, Publisher, PublisherEvents
from sandbox_core.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from .lane import Event

_LOGGER = "sandbox.routing"
_log = structlog.get_logger(_LOGGER)


class Observer(Protocol):
    """Sees each publication when it is handed over and when it is acknowledged."""

    def submitted(self, publication: Publication, frame: Frame) -> object:
        """The event is on its way; the result comes back with the acknowledgement."""

    def acknowledged(self, publication: Publication, mark: object) -> None:
        """JetStream has it."""


class TraceEvents:
    """A span for each event, from its frame to its acknowledgement."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def submitted(self, publication: Publication, frame: Frame) -> object:
        """Begin the span; the publication's headers carry its context."""
        headers = dict(publication.label.headers)
        span = self._tracing.event(headers, frame.received_at)
        publication.label_anew(publication.subject, headers)
        return span

    def acknowledged(self, _publication: Publication, mark: object) -> None:
        """End the span."""
        cast("Span", mark).end()


class LogDecisions:
    """A debug line for each decision and each acknowledgement."""

    def submitted(self, publication: Publication, frame: Frame) -> object:
        """Log where the event goes."""
        _log.debug(
            "event_decided",
            subject=publication.subject,
            message_id=publication.message_id,
            guild_id=frame.guild_id,
            sandbox_id=publication.label.headers.get("Sandbox-Id"),
        )
        return frame.received_at

    def acknowledged(self, publication: Publication, mark: object) -> None:
        """Log how long it took."""
        elapsed = time.monotonic() - cast("float", mark)
        _log.debug(
            "event_acknowledged",
            message_id=publication.message_id,
            duration_ms=round(elapsed * 1000, 2),
        )


class ObservedPath:
    """Passes everything on in both directions, and tells the observers."""

    def __init__(self, events: PublisherEvents, observers: Sequence[Observer]) -> None:
        self._events = events
        self._observers = tuple(observers)
        self._publisher: Publisher | None = None
        self._marks: dict[Publication, list[object]] = {}

    def to(self, publisher: Publisher) -> ObservedPath:
        """Hand publications on to this one."""
        self._publisher = publisher
        return self

    def submit(self, publication: Publication) -> None:
        """Tell the observers, and publish."""
        if self._publisher is None:
            raise RuntimeError("an event is to be published without a publisher")
        frame = cast("Event", publication.context).frame
        self._marks[publication] = [each.submitted(publication, frame) for each in self._observers]
        self._publisher.submit(publication)

    def in_flight(self) -> list[Publication]:
        """What is not acknowledged yet."""
        return [] if self._publisher is None else self._publisher.in_flight()

    def withdraw(self, publication: Publication) -> None:
        """Send it no more: its span never ends, as another process has the event."""
        self._marks.pop(publication, None)
        if self._publisher is not None:
            self._publisher.withdraw(publication)

    def acknowledged(self, publications: Sequence[Publication]) -> None:
        """Tell the observers, and the router."""
        for publication in publications:
            for observer, mark in zip(self._observers, self._marks.pop(publication), strict=True):
                observer.acknowledged(publication, mark)
        self._events.acknowledged(publications)

    def attempt_failed(self, reason: str) -> None:
        """Tell the router."""
        self._events.attempt_failed(reason)

    def given_up(self, publication: Publication, reason: Drop, before: float) -> None:
        """Tell the router; `withdraw` was not called. Its span never ends."""
        self._marks.pop(publication, None)
        self._events.given_up(publication, reason, before)


def observers(tracing: Tracing | None) -> list[Observer]:
    """Those that have something to do in this process; decided once, at the start."""
    found: list[Observer] = []
    if tracing is not None:
        found.append(TraceEvents(tracing))
    if logging.getLogger(_LOGGER).isEnabledFor(logging.DEBUG):
        found.append(LogDecisions())
    return found
