"""Keeps guild-less events until their guild is known.

Only an event that can be a guild's waits, and only while nobody here knows its channel. What comes later in
that channel waits behind it, so that a message's deletion does not overtake it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import structlog

from sandbox_core import tasks
from sandbox_core.events import DIRECT, Frame, Hints, Place

from .guilds import ChannelGuilds
from .lookup import WITHIN, ChannelLookup

_log = structlog.get_logger("sandbox.router")

_MAX_WAITING = 1000


class _HasFrame(Protocol):
    @property
    def frame(self) -> Frame: ...


_Event = TypeVar("_Event", bound=_HasFrame)


class Attribution(Generic[_Event]):
    """Tells the guild of a guild-less event: at once where it is known, else when it is looked up.

    The answer then stands in the frame: the guild in `attributed_to`, or else the place in its hints. Without
    a look-up, an event that nobody knows about is judged by what it tells itself.
    """

    def __init__(
        self,
        guilds: ChannelGuilds,
        lookup: ChannelLookup | None,
        attributed: Callable[[_Event], None],
        *,
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        """`attributed` is given each event that waited, in order of receipt per channel.

        Beyond `max_waiting` nothing waits: other events must not be held back by these.
        """
        self._guilds = guilds
        self._lookup = lookup
        self._attributed = attributed
        self._max_waiting = min(max_waiting, _MAX_WAITING)
        self._waiting: dict[str, list[tuple[float, _Event]]] = {}
        """Events by channel, or by interaction where there is no channel, with when they came."""
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Events whose guild is being asked for."""
        return self._count

    def attribute(self, frame: Frame) -> bool:
        """Write the event's guild into the frame; False when the event has to `wait`."""
        hints = frame.hints
        if hints is None:
            return True
        key = _key(hints)
        guild = self._guilds.of(hints)
        if guild is not None:
            _attribute(frame, hints, guild)
            chain = self._waiting.get(key or "")
            if key is not None and chain is not None:
                # What is told now tells it of those that wait, and they came before.
                self._release(key, chain, len(chain), guild)
            return True
        if key is None or self._lookup is None:
            return True
        if self._count >= self._max_waiting:
            hints.place = Place.GUILD
            return True
        return False

    def wait(self, event: _Event) -> None:
        """Keep an event that `attribute` left open until its guild is found, or not found in time."""
        hints = event.frame.hints
        key = None if hints is None else _key(hints)
        if key is None or self._lookup is None:
            raise RuntimeError("an event waits that says nothing about its guild")
        arrived = (time.monotonic(), event)
        self._count += 1
        if key in self._waiting:
            self._waiting[key].append(arrived)
            return
        chain = self._waiting[key] = [arrived]
        looking = self._look_up(key, chain, self._lookup)
        task = asyncio.get_running_loop().create_task(looking, name="channel-lookup")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ask no more; what waits stays unacknowledged, and Discord replays it."""
        await tasks.end(*self._tasks)

    async def _look_up(self, key: str, chain: list[tuple[float, _Event]], lookup: ChannelLookup) -> None:
        asked: set[str | None] = {None}
        while chain:
            arrived, event = chain[0]
            hints = event.frame.hints
            if hints is None:
                raise RuntimeError("an event waits that says nothing about its guild")
            asked.add(hints.interaction_id)
            guild = None
            try:
                guild = await lookup.find(
                    hints.channel_id, hints.interaction_id, max(0.0, arrived + WITHIN - time.monotonic())
                )
            except Exception:
                # Whatever is wrong with the question, the events have to go on, and in doubt to neither side.
                _log.exception("channel_not_asked", type=event.frame.type)
            if self._waiting.get(key) is not chain:
                return
            # It may have been learned here meanwhile: its guild came, or the interaction itself.
            guild = guild or self._guilds.of(hints)
            # An event that answers another interaction may be told by that one.
            rest = (n for n, (_, e) in enumerate(chain) if guild is None and _interaction(e) not in asked)
            self._release(key, chain, next(rest, len(chain)), guild)

    def _release(self, key: str, chain: list[tuple[float, _Event]], number: int, guild: str | None) -> None:
        released, chain[:number] = chain[:number], []
        if not chain:
            del self._waiting[key]
        self._count -= len(released)
        for _, event in released:
            if event.frame.hints is not None:
                _attribute(event.frame, event.frame.hints, guild)
            self._attributed(event)


def _interaction(event: _HasFrame) -> str | None:
    return None if event.frame.hints is None else event.frame.hints.interaction_id


def _key(hints: Hints) -> str | None:
    return hints.channel_id or hints.interaction_id


def _attribute(frame: Frame, hints: Hints, guild: str | None) -> None:
    if guild is None:
        hints.place = Place.GUILD
    elif guild == DIRECT:
        hints.place = Place.DIRECT
    else:
        frame.attributed_to = guild
