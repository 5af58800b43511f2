"""The newest events of a stream, kept up to date by whoever looks again and again."""

from __future__ import annotations

from collections import deque

from sandbox_core.errors import DependencyUnavailable, DoesNotFit
from sandbox_core.nats.errors import DEPENDENCY
from sandbox_core.nats.stream_place import StreamPlace
from sandbox_core.nats.stream_reader import EventsLost, Stored, StreamReader

from .filters import Filter
from .seen import SeenEvent, seen

_MOST_READ = 20_000
"""How many events one look reads at most, so that a flood costs it seconds and no more."""
_FIRST_LOOK, _LOOKS_GROW = 500, 8
_TRIES = 5


class Recent:
    """The newest `limit` wanted events. A look reads only what has come since the one before."""

    def __init__(self, place: StreamPlace, wanted: Filter, limit: int) -> None:
        self._place = place
        self._wanted = wanted
        self._events: deque[SeenEvent] = deque(maxlen=limit)
        self._position: int | None = None
        self.birth = 0
        """Which stream it is: one that is made anew gives the same numbers to other events."""
        self.missed = 0
        """How many events went, or came too fast, before they were read; of all types."""
        self.remade = False
        """Whether the stream was made anew since the first look: nobody knows what was lost then."""

    @property
    def events(self) -> tuple[SeenEvent, ...]:
        """The oldest of them first."""
        return tuple(self._events)

    async def look(self) -> None:
        """Read what has come. Raises `DependencyUnavailable`; the next look then goes on from here."""
        for _ in range(_TRIES):
            try:
                if self._position is None:
                    await self._begin()
                else:
                    await self._go_on(self._position)
                return
            except EventsLost:
                # The oldest went while they were read, or the stream itself.
                continue
        raise DependencyUnavailable(DEPENDENCY, "events go faster than they can be read")

    async def _begin(self) -> None:
        state = await self._place.state()
        look = _FIRST_LOOK
        while True:
            begin = max(state.first - 1, state.last - look)
            found = await self._read(state.birth, begin, state.last)
            self._events.clear()
            self._events.extend(found)
            if len(self._events) == self._events.maxlen or begin <= state.first - 1 or look >= _MOST_READ:
                break
            look = min(look * _LOOKS_GROW, _MOST_READ)
        self.birth, self._position = state.birth, state.last

    async def _go_on(self, position: int) -> None:
        state = await self._place.state()
        if state.birth != self.birth:
            # What is shown of the old one can't be had any more.
            self.remade, self.birth = True, state.birth
            self._events.clear()
            position = self._position = state.first - 1
        begin = max(position, state.first - 1, state.last - _MOST_READ)
        found = await self._read(state.birth, begin, state.last)
        self.missed += begin - position
        self._events.extend(found)
        self._position = max(begin, state.last)

    async def _read(self, birth: int, begin: int, last: int) -> list[SeenEvent]:
        found: list[SeenEvent] = []

        def take(stored: Stored) -> None:
            event = seen(stored)
            if event is not None and self._wanted.takes(event):
                found.append(event)

        await StreamReader(self._place, birth, begin, take, until=last).run()
        return found


async def events_by_number(place: StreamPlace, birth: int, numbers: list[int]) -> list[SeenEvent]:
    """Return these events of the stream, in its order. Raises `DoesNotFit` when one has gone."""
    state = await place.state()
    found: dict[int, SeenEvent] = {}

    def take(stored: Stored) -> None:
        if stored.position in numbers and (event := seen(stored)) is not None:
            found[event.id] = event

    if state.birth == birth:
        for number in sorted(set(numbers)):
            if number in found or not state.first <= number <= state.last:
                continue
            try:
                await StreamReader(place, birth, number - 1, take, until=number).run()
            except EventsLost:
                break
    gone = [number for number in sorted(set(numbers)) if number not in found]
    if gone:
        right = "A sandbox keeps its events for minutes. Look again, and choose one that is there."
        raise DoesNotFit(f"The event {gone[0]}", "it is not there any more", right)
    return [found[number] for number in sorted(found)]
