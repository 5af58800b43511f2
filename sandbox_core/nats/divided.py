"""The publisher of the sandboxes where some have an account of their own, and others have none."""

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

    def has(self, sandbox_id: str) -> bool | None:
        """Whether it has an account; None when that is not known."""

    async def look(self) -> None:
        """Read it anew. Raises `DependencyUnavailable`."""


class DividedPublisher:
    """Gives each publication to `own` or to `here`. One of an unknown sandbox waits until it is known.

    `here` is for sandboxes without an account, and starts with the first that it gets: an installation
    without such sandboxes needs nothing of it.
    """

    def __init__(self, places: KnowsPlaces, own: AckPublisher, here: AckPublisher) -> None:
        self._places = places
        self._own = own
        self._here = here
        self._waiting: dict[Publication, None] = {}
        self._asking = tasks.OnDemand(self._ask, "sandbox-places")
        self._starting = tasks.OnDemand(here.start, "sandbox-publisher")

    def submit(self, publication: Publication) -> None:
        """Give it to the one whose it is."""
        has = self._places.has(_sandbox(publication))
        if has is None:
            self._waiting[publication] = None
            self._asking.begin()
        else:
            self._hand_on(publication, has=has)

    def in_flight(self) -> list[Publication]:
        """What was taken and is not acknowledged yet."""
        return [*self._waiting, *self._own.in_flight(), *self._here.in_flight()]

    def withdraw(self, publication: Publication) -> None:
        """Send the publication no more."""
        if publication in self._waiting:
            del self._waiting[publication]
            return
        # Their numbers overlap.
        is_here = self._here.awaited.get(publication.number) is publication
        whose: Publisher = self._here if is_here else self._own
        whose.withdraw(publication)

    def _hand_on(self, publication: Publication, *, has: bool) -> None:
        if has:
            self._own.submit(publication)
            return
        if not self._here.started:
            self._starting.begin()
        self._here.submit(publication)

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
            self._hand_on(publication, has=self._places.has(_sandbox(publication)) is not False)

    async def close(self) -> None:
        """Hand nothing on any more."""
        await self._asking.close()
        await self._starting.close()


def _not_read() -> None:
    _log.exception("places_not_read")


def _sandbox(publication: Publication) -> str:
    return publication.label.headers.get("Sandbox-Id", "")
