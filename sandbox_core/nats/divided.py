"""The publisher of the sandboxes where some have a place of their own, and others share a stream."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable

from .publication import Publication, Publisher
from .publisher import AckPublisher

_log = structlog.get_logger("sandbox.nats")

_ASK_AGAIN_AFTER = 0.5


class KnowsPlaces(Protocol):
    """See `SlotPlaces`."""

    def shares(self, sandbox_id: str) -> bool | None:
        """Whether it shares the stream; None when that is not known."""

    async def look(self) -> None:
        """Read it anew. Raises `DependencyUnavailable`."""


class DividedPublisher:
    """Gives each publication to `own` or to `shared`. One of an unknown sandbox waits until it is known.

    `shared` starts with the first that it gets: an installation without such sandboxes has no such stream.
    """

    def __init__(self, places: KnowsPlaces, own: AckPublisher, shared: AckPublisher) -> None:
        self._places = places
        self._own = own
        self._shared = shared
        self._waiting: dict[Publication, None] = {}
        self._asking = tasks.OnDemand(self._ask, "sandbox-places")
        self._starting = tasks.OnDemand(shared.start, "shared-publisher")

    def submit(self, publication: Publication) -> None:
        """Give it to the one whose it is."""
        shares = self._places.shares(_sandbox(publication))
        if shares is None:
            self._waiting[publication] = None
            self._asking.begin()
        else:
            self._hand_on(publication, shares=shares)

    def in_flight(self) -> list[Publication]:
        """What was taken and is not acknowledged yet."""
        return [*self._waiting, *self._own.in_flight(), *self._shared.in_flight()]

    def withdraw(self, publication: Publication) -> None:
        """Send the publication no more."""
        if publication in self._waiting:
            del self._waiting[publication]
            return
        # Their numbers overlap.
        whose: Publisher = self._shared if self._has(self._shared, publication) else self._own
        whose.withdraw(publication)

    def _has(self, publisher: AckPublisher, publication: Publication) -> bool:
        return publisher.awaited.get(publication.number) is publication

    def _hand_on(self, publication: Publication, *, shares: bool) -> None:
        if not shares:
            self._own.submit(publication)
            return
        if not self._shared.started:
            self._starting.begin()
        self._shared.submit(publication)

    async def _ask(self) -> None:
        await tasks.repeat(
            self._ask_once, failed=_not_read, pause=_ASK_AGAIN_AFTER, while_=lambda: self._waiting
        )

    async def _ask_once(self) -> None:
        try:
            await self._places.look()
        except DependencyUnavailable as error:
            _log.debug("places_wait", dependency=error.dependency, reason=error.reason)
            await asyncio.sleep(_ASK_AGAIN_AFTER)
            return
        waiting, self._waiting = self._waiting, {}
        for publication in waiting:
            # One that nobody knows has ended: its own side refuses its events.
            self._hand_on(publication, shares=bool(self._places.shares(_sandbox(publication))))

    async def close(self) -> None:
        """Hand nothing on any more."""
        await self._asking.close()
        await self._starting.close()


def _not_read() -> None:
    _log.exception("places_not_read")


def _sandbox(publication: Publication) -> str:
    return publication.label.headers.get("Sandbox-Id", "")
