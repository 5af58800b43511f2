"""Each sandbox's stream is read once in a process, for all its sessions there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import UUID

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.namespaces.stream_places import StreamPlaces
from sandbox_core.nats.stream_place import StreamPlace
from sandbox_core.nats.stream_reader import EventsLost, Stored, StreamReader

from .events import StreamEvent, event_of

_log = structlog.get_logger("sandbox.client_gateway")


class Listener(Protocol):
    """A session."""

    def offer(self, event: StreamEvent) -> None:
        """Take the next event. Must not raise."""
        ...

    def events_lost(self) -> None:
        """Not all events can be had any more."""
        ...


class Feed:
    """The events of one sandbox, as they are stored."""

    def __init__(self, place: StreamPlace, birth: int, position: int) -> None:
        self.place = place
        self.birth = birth
        self._reader = StreamReader(place, birth, position, self._tell)
        self._listeners: dict[Listener, None] = {}
        self._task = asyncio.create_task(self._run(), name="client-feed")

    @property
    def position(self) -> int:
        """The last event that all listeners were told."""
        return self._reader.position

    @property
    def lost(self) -> bool:
        """True when it can't go on."""
        return self._task.done()

    def add(self, listener: Listener) -> None:
        """Tell the listener every event behind `position`."""
        self._listeners[listener] = None

    def remove(self, listener: Listener) -> None:
        """Tell it no more."""
        self._listeners.pop(listener, None)

    async def close(self) -> None:
        """Read no more."""
        await tasks.end(self._task)

    def _tell(self, stored: Stored) -> None:
        event = event_of(stored)
        if event is None:
            return
        for listener in tuple(self._listeners):
            listener.offer(event)

    async def _run(self) -> None:
        try:
            await self._reader.run()
        except EventsLost:
            _log.warning("client_events_lost", stream=self.place.stream, sessions=len(self._listeners))
        except Exception:
            # Whatever it was: without events nobody may believe that none have come.
            _log.exception("client_feed_failed", stream=self.place.stream)
        for listener in tuple(self._listeners):
            listener.events_lost()


class Feeds:
    """The feeds in use; one that nobody uses any more ends."""

    def __init__(self, places: StreamPlaces) -> None:
        self._places = places
        self._feeds: dict[UUID, Feed] = {}
        self._users: dict[Feed, int] = {}
        self._turns: dict[UUID, asyncio.Lock] = {}

    @asynccontextmanager
    async def use(self, sandbox_id: UUID, *, credentials: int) -> AsyncIterator[Feed]:
        """Use the sandbox's feed. Raises `DependencyUnavailable`."""
        turn = self._turns.setdefault(sandbox_id, asyncio.Lock())
        async with turn:
            feed = self._feeds.get(sandbox_id)
            if feed is None or feed.lost:
                place = await self._places.of(sandbox_id, credentials=credentials)
                try:
                    state = await place.state()
                except DependencyUnavailable:
                    self._places.forget(sandbox_id)
                    raise
                feed = self._feeds[sandbox_id] = Feed(place, state.birth, state.last)
                self._users[feed] = 0
            self._users[feed] += 1
        try:
            yield feed
        finally:
            self._users[feed] -= 1
            if not self._users[feed]:
                del self._users[feed]
                if self._feeds.get(sandbox_id) is feed:
                    del self._feeds[sandbox_id]
                    self._turns.pop(sandbox_id, None)
                await feed.close()
