"""Guild-less events until it is known whose they are.

Only an event that can be a guild's, and whose channel nobody here knows, waits; and with it what comes
later in that channel, so that a message's deletion does not overtake it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import structlog

from sandbox_core import tasks
from sandbox_core.events import DIRECT, Frame, Hints, Place

from .channels import ChannelOwners
from .finder import WITHIN, OwnerFinder

_log = structlog.get_logger("sandbox.router")

_MAX_WAITING = 1000


class _HasFrame(Protocol):
    @property
    def frame(self) -> Frame: ...


_Event = TypeVar("_Event", bound=_HasFrame)


class Attribution(Generic[_Event]):
    """Tells whose a guild-less event is: at once where it is known, else when it is found out.

    Whose it is then stands in the frame: the guild in `attributed_to`, or else the place in its hints.
    Without a finder an event nobody knows about is judged by what it tells itself.
    """

    def __init__(
        self,
        owners: ChannelOwners,
        finder: OwnerFinder | None,
        settled: Callable[[_Event], None],
        *,
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        """`settled` is given each event that waited, in order of receipt per channel.

        Beyond `max_waiting` nothing waits: other events must not be held back by these.
        """
        self._owners = owners
        self._finder = finder
        self._settled = settled
        self._max_waiting = min(max_waiting, _MAX_WAITING)
        self._waiting: dict[str, list[tuple[float, _Event]]] = {}
        """Events by channel, or by interaction where there is no channel, with when they came."""
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Events whose owner is being asked for."""
        return self._count

    def settle(self, frame: Frame) -> bool:
        """Say whose the event is; False when it has to `wait`."""
        hints = frame.hints
        if hints is None:
            return True
        key = _key(hints)
        owner = self._known(frame, hints)
        if owner is not None:
            _attribute(frame, hints, owner)
            chain = self._waiting.get(key or "")
            if key is not None and chain is not None:
                # What is told now tells it of those that wait, and they came before.
                self._release(key, chain, len(chain), owner)
            return True
        if key is None or self._finder is None:
            return True
        if self._count >= self._max_waiting:
            hints.place = Place.GUILD
            return True
        return False

    def wait(self, event: _Event) -> None:
        """Keep an event that `settle` could not settle until its owner is found, or not found in time."""
        hints = event.frame.hints
        key = None if hints is None else _key(hints)
        if key is None or self._finder is None:
            raise RuntimeError("an event waits that says nothing about its owner")
        arrived = (time.monotonic(), event)
        self._count += 1
        if key in self._waiting:
            self._waiting[key].append(arrived)
            return
        chain = self._waiting[key] = [arrived]
        task = asyncio.get_running_loop().create_task(self._look_up(key, chain, self._finder), name="owner")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ask no more; what waits stays unacknowledged, and Discord replays it."""
        await tasks.end(*self._tasks)

    def _known(self, frame: Frame, hints: Hints) -> str | None:
        owner = self._owners.owner(frame)
        if owner is not None or self._finder is None:
            return owner
        channel_id = hints.channel_id
        if hints.place is Place.DIRECT:
            if channel_id is not None:
                self._finder.learn(channel_id, DIRECT)
            return DIRECT
        return None if channel_id is None else self._finder.known(channel_id)

    async def _look_up(self, key: str, chain: list[tuple[float, _Event]], finder: OwnerFinder) -> None:
        asked: set[str | None] = {None}
        while chain:
            arrived, event = chain[0]
            hints = event.frame.hints
            if hints is None:
                raise RuntimeError("an event waits that says nothing about its owner")
            asked.add(hints.interaction_id)
            owner = None
            try:
                owner = await finder.find(
                    hints.channel_id, hints.interaction_id, max(0.0, arrived + WITHIN - time.monotonic())
                )
            except Exception:
                # Whatever is wrong with the question, the events have to go on, and in doubt to neither side.
                _log.exception("owner_not_asked", type=event.frame.type)
            if self._waiting.get(key) is not chain:
                return
            # It may have been learned here meanwhile: its guild came, or the interaction itself.
            owner = owner or self._known(event.frame, hints)
            # An event that answers another interaction may be told by that one.
            rest = (n for n, (_, e) in enumerate(chain) if owner is None and _interaction(e) not in asked)
            self._release(key, chain, next(rest, len(chain)), owner)

    def _release(self, key: str, chain: list[tuple[float, _Event]], number: int, owner: str | None) -> None:
        released, chain[:number] = chain[:number], []
        if not chain:
            del self._waiting[key]
        self._count -= len(released)
        for _, event in released:
            if event.frame.hints is not None:
                _attribute(event.frame, event.frame.hints, owner)
            self._settled(event)


def _interaction(event: _HasFrame) -> str | None:
    return None if event.frame.hints is None else event.frame.hints.interaction_id


def _key(hints: Hints) -> str | None:
    return hints.channel_id or hints.interaction_id


def _attribute(frame: Frame, hints: Hints, owner: str | None) -> None:
    if owner is None:
        hints.place = Place.GUILD
    elif owner == DIRECT:
        hints.place = Place.DIRECT
    else:
        frame.attributed_to = owner
