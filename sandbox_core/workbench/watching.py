"""Reads the events of a stream back, and follows it. Workers lose nothing: nothing is acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable, DoesNotFit
from sandbox_core.nats.stream_place import StreamPlace, StreamState
from sandbox_core.nats.stream_reader import EventsLost, Stored, StreamReader

from .filters import Filter
from .seen import SeenEvent, seen

_FIRST_LOOK = 500
_LOOKS_GROW = 8
_MOST_WAITING = 2000
_AGAIN_AFTER = 0.5
_REMEMBERED = 20_000
"""The events that a bot whose process and NATS died together may send a second time."""


@dataclass(frozen=True, slots=True)
class Missed:
    """What could not be shown, as it was removed before it could be read."""

    events: int | None
    """How many at most; None when the stream was made anew, so that nobody knows."""
    birth: int = 0
    """Which stream is read from then on."""
    position: int = 0
    """Behind which of its events."""


async def last_events(place: StreamPlace, wanted: Filter, limit: int) -> tuple[list[SeenEvent], int]:
    """Return the newest events, the oldest of them first, and the stream's last number.

    Raises `DependencyUnavailable`.
    """
    state = await place.state()
    look = max(_FIRST_LOOK, 2 * limit)
    while True:
        # A stream that never had an event has no first one either.
        before = max(0, state.first - 1)
        begin = max(before, state.last - look)
        found: deque[SeenEvent] = deque(maxlen=limit)
        oldest: list[datetime] = []

        def take(stored: Stored, found: deque[SeenEvent] = found, oldest: list[datetime] = oldest) -> None:
            event = seen(stored)
            if event is not None:
                if not oldest:
                    oldest.append(event.stored_at)
                if wanted.takes(event):
                    found.append(event)

        try:
            await StreamReader(place, state.birth, begin, take, until=state.last).run()
        except EventsLost:
            # The oldest went while they were read, or the stream itself.
            state = await place.state()
            continue
        far_enough = wanted.since is not None and bool(oldest) and oldest[0] < wanted.since
        if len(found) == limit or begin <= before or far_enough:
            return list(found), state.last
        look *= _LOOKS_GROW


async def one_event(place: StreamPlace, number: str) -> SeenEvent:
    """Return the event with this number. Raises `DoesNotFit` and `DependencyUnavailable`."""
    state = await place.state()
    is_number = number.isascii() and number.isdigit() and len(number) < 19
    found: list[SeenEvent] = []
    if is_number and state.first <= int(number) <= state.last:

        def take(stored: Stored) -> None:
            event = seen(stored)
            if event is not None and event.id == int(number):
                found.append(event)

        try:
            await StreamReader(place, state.birth, int(number) - 1, take, until=int(number)).run()
        except EventsLost:
            found.clear()
    if not found:
        right = "An event's number stands in front of it in the list; a sandbox keeps its events for minutes."
        raise DoesNotFit(f"The event {number}", "there is none with this number now", right)
    return found[0]


class _Reading:
    """Reads ahead of whoever looks, by so many events at most."""

    def __init__(self, place: StreamPlace, birth: int, position: int) -> None:
        self._waiting: deque[Stored] = deque()
        self._come = asyncio.Event()
        self._reader = StreamReader(place, birth, position, self._take)
        self._task = asyncio.create_task(self._reader.run(), name="workbench-follow")
        self._task.add_done_callback(self._ended)

    @property
    def position(self) -> int:
        """The last event that was read."""
        return self._reader.position

    async def events(self) -> AsyncIterator[SeenEvent]:
        """Yield what is read, until the reading ends. Raises `EventsLost`."""
        try:
            while self._waiting or not self._task.done():
                if not self._waiting:
                    self._come.clear()
                    await self._come.wait()
                elif (event := seen(self._waiting.popleft())) is not None:
                    yield event
        finally:
            await tasks.end(self._task)
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error

    def _take(self, stored: Stored) -> None:
        self._waiting.append(stored)
        self._come.set()
        if len(self._waiting) >= _MOST_WAITING:
            # Whoever looks is slower: the stream keeps what comes meanwhile.
            self._task.cancel()

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._come.set()


class _Shown:
    """The newest events' names: a stream that was made anew knows of none, and may be sent them again."""

    def __init__(self) -> None:
        self._order: deque[str] = deque()
        self._names: set[str] = set()

    def is_new(self, message_id: str) -> bool:
        """Return whether this event was not shown yet, and note it."""
        if not message_id:
            return True
        if message_id in self._names:
            return False
        self._names.add(message_id)
        self._order.append(message_id)
        if len(self._order) > _REMEMBERED:
            self._names.discard(self._order.popleft())
        return True


async def follow(
    place: StreamPlace, position: int | None = None, *, birth: int | None = None
) -> AsyncIterator[SeenEvent | Missed]:
    """Yield each event behind `position` once, or from now on, and what was missed; an outage is waited out.

    `birth` says of which stream the position is. Raises `DependencyUnavailable` only when NATS is away at the
    beginning.
    """
    state = await place.state()
    if birth is not None and birth != state.birth:
        position = state.first - 1
        yield Missed(None, state.birth, position)
    position = state.last if position is None else position
    shown = _Shown()
    while True:
        reading = _Reading(place, state.birth, position)
        try:
            async for event in reading.events():
                if shown.is_new(event.message_id):
                    yield event
        except EventsLost:
            before, state = state, await _state_again(place)
            missed = state.first - 1 - reading.position if state.birth == before.birth else None
            position = state.first - 1
            if missed is not None and missed <= 0 and state.last > reading.position:
                # One in the middle was removed.
                missed, position = 1, reading.position + 1
            if missed is None or missed > 0:
                yield Missed(missed, state.birth, position)
            else:
                position = reading.position
        else:
            position = reading.position


async def _state_again(place: StreamPlace) -> StreamState:
    while True:
        try:
            return await place.state()
        except DependencyUnavailable:
            await asyncio.sleep(_AGAIN_AFTER)
