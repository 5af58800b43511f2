"""From the bytes of a gateway connection to the router: frames are read, sessions told apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog

from sandbox_core.events import DISPATCH, Frame, FrameError, read_frame, read_ready
from sandbox_core.models import shard_of

from .ledger import ShardLedger
from .router import EventRouter
from .verdicts import Tell
from .waiting import WaitingFrames

_log = structlog.get_logger("sandbox.gateway")


_LOOK = 0.1


class GatewayIntake:
    """Knows each shard's session, and hands every dispatch frame to the router exactly once.

    `monotonic` is the clock, in seconds, that the route latency is measured with.
    """

    def __init__(self, router: EventRouter, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._router = router
        self._monotonic = monotonic
        self._ledgers: dict[int, ShardLedger] = {}
        self._since: dict[int, float] = {}
        """When each shard's session came to this process, by the clock above."""
        self._waiting: dict[int, WaitingFrames] = {}
        """By shard, what is kept while another process publishes it."""
        self.owner_ids: frozenset[str] = frozenset()
        """Users whose commands in direct messages somebody here carries out; those are not published."""

    @property
    def full(self) -> bool:
        """True when a source that can wait should await `room` before it reads on."""
        return self._router.full or (bool(self._waiting) and self._is_crowded())

    async def room(self) -> None:
        """Return when the router takes more frames."""
        await self._router.room()
        while self._is_crowded():  # noqa: ASYNC110 (a rare state, which many things end)
            await asyncio.sleep(_LOOK)

    def _is_crowded(self) -> bool:
        return any(waiting.is_crowded for waiting in self._waiting.values())

    def ledger(self, shard_id: int) -> ShardLedger | None:
        """The bookkeeping of the shard's present session, or None before its first READY."""
        return self._ledgers.get(shard_id)

    def watched_for(self, guild_id: str, shard_count: int) -> float:
        """Seconds since when the guild's events come to this process; 0 while another has its shard.

        A session that is resumed after a lost connection goes on: what was missed meanwhile is replayed.
        """
        shard_id = shard_of(guild_id, shard_count)
        ledger = self._ledgers.get(shard_id)
        return 0.0 if ledger is None or ledger.lost else self._monotonic() - self._since[shard_id]

    @property
    def lag(self) -> int:
        """Frames received and not yet acknowledged, over all shards."""
        return sum(ledger.lag for ledger in self._ledgers.values())

    def adopt(self, session_id: str, shard_id: int, sequence: int, stored: Iterable[int] = ()) -> None:
        """Go on with a session that began elsewhere, from `sequence`; one that is known stays as it is.

        `stored` are later sequences whose events are published already; their replay is passed over.
        """
        known = self._ledgers.get(shard_id)
        if known is None or known.session_id != session_id:
            self._begin(ShardLedger(session_id, shard_id, sequence, stored))

    def before_switch(self, action: Callable[[], Awaitable[None]]) -> None:
        """Have `action` awaited whenever a guild is drained and its route is about to change.

        It limits its own time: the guild's events wait for it.
        """
        self._router.before_switch.append(action)

    def lose(self, shard_id: int) -> list[Frame]:
        """Another process has the shard, and gets what is not acknowledged here.

        That is published here no more. Returns its frames.
        """
        ledger = self._ledgers.get(shard_id)
        if ledger is None or ledger.lost:
            return []
        discarded = self._router.discard(ledger)
        if discarded:
            _log.warning("events_left_to_the_new_holder", shard=shard_id, events=len(discarded))
        return discarded

    # Standing by

    @property
    def shard_ids(self) -> tuple[int, ...]:
        """The shards with a session here, published here or not."""
        return tuple(self._ledgers)

    def stand_by(self, shard_id: int) -> None:
        """Keep what comes of the shard from now on, as another process publishes it."""
        if shard_id not in self._waiting:
            self._waiting[shard_id] = WaitingFrames(self._router.channels, self._monotonic())

    def give_way(self, shard_id: int) -> None:
        """Another process publishes the shard from now on, and its session stays here: stand by.

        What was taken and is not acknowledged is kept too, and published here no more.
        """
        if shard_id in self._waiting:
            return
        ledger = self._ledgers.get(shard_id)
        discarded = self.lose(shard_id)
        self.stand_by(shard_id)
        if ledger is not None and ledger.lost:
            # The session goes on, and this process may publish it again.
            fresh = ShardLedger(ledger.session_id, shard_id, ledger.received)
            self._ledgers[shard_id] = fresh
            self._waiting[shard_id].put_back(discarded, fresh)

    def waiting(self, shard_id: int) -> WaitingFrames | None:
        """What is kept of the shard; None when it is published here."""
        return self._waiting.get(shard_id)

    def about_to_go_on(self, shard_id: int, *, certain: bool = True) -> None:
        """What is kept of the shard is about to be published; with `certain=False`, it is not after all."""
        waiting = self._waiting.get(shard_id)
        if waiting is not None:
            waiting.bounded = not certain
        if waiting is not None and certain:
            self._router.joining(shard_id)
        else:
            self._router.joined(shard_id)

    def go_on(self, shard_id: int, stored: Callable[[int], bool]) -> int:
        """Publish the shard from now on, first what was kept of it; returns how many of those.

        `stored` tells by its place in what was kept whether an event is stored already.
        """
        waiting = self._waiting.pop(shard_id)
        heard: dict[int, tuple[ShardLedger, int]] = {}
        published = 0
        for place, (frame, ledger) in enumerate(waiting.frames):
            if id(ledger) not in heard:
                heard[id(ledger)] = (ledger, ledger.reopen(frame.seq - 1))
            if stored(place):
                ledger.passed(frame.seq)
            else:
                published += 1
                self._router.route(frame, ledger)
        present = self._ledgers.get(shard_id)
        if present is not None and id(present) not in heard:
            heard[id(present)] = (present, present.reopen(present.received))
        for ledger, last in heard.values():
            ledger.passed(last)
        self._router.joined(shard_id)
        return published

    def forget(self, shard_id: int) -> None:
        """Another process has the shard: what was taken of it is still published, and nothing more comes."""
        self._ledgers.pop(shard_id, None)
        self._since.pop(shard_id, None)
        if self._waiting.pop(shard_id, None) is not None:
            self._router.joined(shard_id)

    def _begin(self, ledger: ShardLedger) -> None:
        self._ledgers[ledger.shard_id] = ledger
        self._since[ledger.shard_id] = self._monotonic()

    def frame_of(self, raw: bytes) -> Frame:
        """Read one frame. Raises `FrameError` when the bytes are no gateway frame."""
        return read_frame(raw, self._monotonic(), self.owner_ids)

    def read(self, raw: bytes) -> Frame | None:
        """Read one frame; None, after a log line, when the bytes are no gateway frame."""
        try:
            return self.frame_of(raw)
        except FrameError as error:
            self._router.count_dropped("unreadable")
            _log.error("frame_unreadable", reason=str(error), bytes=len(raw))
            return None

    def take(self, frame: Frame, shard_id: int, tell: Tell | None = None) -> bool:
        """Hand a frame of this shard to the router; frames that are no dispatch are nobody's.

        Returns and tells what `EventRouter.route` does; False also while the shard is only kept.
        """
        if frame.op != DISPATCH:
            return False
        waiting = self._waiting.get(shard_id) if self._waiting else None
        if frame.type == "READY":
            ready = read_ready(frame)
            self._begin(ShardLedger(ready.session_id, shard_id, resume_url=ready.resume_gateway_url))
            if waiting is not None:
                waiting.began(ready.guild_ids, frame.received_at)
        ledger = self._ledgers.get(shard_id)
        if ledger is None:
            # Discord sends nothing before READY or the replay of a resumed session.
            self._router.count_dropped("no_session")
            _log.error("frame_without_session", shard=shard_id, type=frame.type)
            return False
        if waiting is None:
            return self._router.route(frame, ledger, tell)
        waiting.keep(frame, ledger)
        return False
