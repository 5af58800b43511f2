"""From the bytes of a gateway connection to the router: frames are read, sessions told apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog

from sandbox_core.events import DISPATCH, Frame, FrameError, read_frame, read_ready
from sandbox_core.models import shard_of

from .lane import Tell
from .ledger import ShardLedger
from .router import EventRouter
from .waiting import WaitingFrames

_log = structlog.get_logger("sandbox.gateway")


_LOOK = 0.1


class ShardIntake:
    """One shard's way in: its session, and what is kept of it while another process publishes it."""

    __slots__ = ("_monotonic", "_router", "began_at", "ledger", "shard_id", "waiting")

    def __init__(self, shard_id: int, router: EventRouter, monotonic: Callable[[], float]) -> None:
        self._router = router
        self._monotonic = monotonic
        self.shard_id = shard_id
        self.ledger: ShardLedger | None = None
        """The bookkeeping of the present session; None before its READY."""
        self.began_at = 0.0
        """When the session came to this process, by the clock of the frames."""
        self.waiting: WaitingFrames | None = None
        """What is kept; None while the shard is published here."""

    def begin(self, ledger: ShardLedger) -> None:
        """The shard has this session from now on."""
        self.ledger = ledger
        self.began_at = self._monotonic()

    def take(self, frame: Frame, tell: Tell | None = None) -> bool:
        """Hand a dispatch frame to the router, or keep it.

        Returns and tells what `EventRouter.route` does; False also while the shard is only kept.
        """
        if frame.type == "READY":
            self._ready(frame)
        ledger = self.ledger
        if ledger is None:
            # Discord sends nothing before READY or the replay of a resumed session.
            self._router.count_dropped("no_session")
            _log.error("frame_without_session", shard=self.shard_id, type=frame.type)
            return False
        if self.waiting is None:
            return self._router.route(frame, ledger, tell)
        self.waiting.keep(frame, ledger)
        return False

    def _ready(self, frame: Frame) -> None:
        ready = read_ready(frame)
        self.begin(ShardLedger(ready.session_id, self.shard_id, resume_url=ready.resume_gateway_url))
        if self.waiting is not None:
            self.waiting.began(ready.guild_ids, frame.received_at)


class GatewayIntake:
    """Knows each shard's session, and hands every dispatch frame to the router exactly once.

    `monotonic` is the clock, in seconds, that the route latency is measured with.
    """

    def __init__(self, router: EventRouter, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._router = router
        self.backlog = router.backlog
        """What was taken and is not acknowledged, whose `full` costs nothing to look at."""
        self._monotonic = monotonic
        self._shards: dict[int, ShardIntake] = {}
        self.owner_ids: frozenset[str] = frozenset()
        """Users whose commands in direct messages somebody here carries out; those are not published."""

    def shard(self, shard_id: int) -> ShardIntake:
        """The shard's way in; it stays the same for as long as this process lives."""
        shard = self._shards.get(shard_id)
        if shard is None:
            shard = self._shards[shard_id] = ShardIntake(shard_id, self._router, self._monotonic)
        return shard

    @property
    def full(self) -> bool:
        """True when a source that can wait should await `room` before it reads on."""
        return self._router.full or self._is_crowded()

    async def room(self) -> None:
        """Return when the router takes more frames."""
        await self._router.room()
        while self._is_crowded():  # noqa: ASYNC110 (a rare state, which many things end)
            await asyncio.sleep(_LOOK)

    def _is_crowded(self) -> bool:
        return any(shard.waiting.is_crowded for shard in self._shards.values() if shard.waiting is not None)

    def ledger(self, shard_id: int) -> ShardLedger | None:
        """The bookkeeping of the shard's present session, or None before its first READY."""
        return self._shards[shard_id].ledger if shard_id in self._shards else None

    def received_for(self, guild_id: str, shard_count: int) -> float:
        """Seconds since when the guild's events come to this process; 0 while another has its shard.

        A session that is resumed after a lost connection goes on: what was missed meanwhile is replayed.
        """
        shard = self.shard(shard_of(guild_id, shard_count))
        ledger = shard.ledger
        return 0.0 if ledger is None or ledger.lost else self._monotonic() - shard.began_at

    @property
    def lag(self) -> int:
        """Frames received and not yet acknowledged, over all shards."""
        return sum(shard.ledger.lag for shard in self._shards.values() if shard.ledger is not None)

    def adopt(self, session_id: str, shard_id: int, sequence: int, stored: Iterable[int] = ()) -> None:
        """Go on with a session that began elsewhere, from `sequence`; one that is known stays as it is.

        `stored` are later sequences whose events are published already; their replay is passed over.
        """
        shard = self.shard(shard_id)
        if shard.ledger is None or shard.ledger.session_id != session_id:
            shard.begin(ShardLedger(session_id, shard_id, sequence, stored))

    def before_switch(self, action: Callable[[], Awaitable[None]]) -> None:
        """Have `action` awaited whenever a guild is drained and its route is about to change.

        It limits its own time: the guild's events wait for it.
        """
        self._router.switching.before_switch.append(action)

    def lose(self, shard_id: int) -> list[Frame]:
        """Another process has the shard, and gets what is not acknowledged here.

        That is published here no more. Returns its frames.
        """
        ledger = self.ledger(shard_id)
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
        return tuple(shard_id for shard_id, shard in self._shards.items() if shard.ledger is not None)

    def stand_by(self, shard_id: int) -> None:
        """Keep what comes of the shard from now on, as another process publishes it."""
        shard = self.shard(shard_id)
        if shard.waiting is None:
            shard.waiting = WaitingFrames(self._router.channels, self._monotonic())

    def give_way(self, shard_id: int) -> None:
        """Another process publishes the shard from now on, and its session stays here: stand by.

        What was taken and is not acknowledged is kept too, and published here no more.
        """
        shard = self.shard(shard_id)
        if shard.waiting is not None:
            return
        ledger = shard.ledger
        discarded = self.lose(shard_id)
        shard.waiting = WaitingFrames(self._router.channels, self._monotonic())
        if ledger is not None and ledger.lost:
            # The session goes on, and this process may publish it again.
            shard.ledger = ShardLedger(ledger.session_id, shard_id, ledger.received)
            shard.waiting.put_back(discarded, shard.ledger)

    def waiting(self, shard_id: int) -> WaitingFrames | None:
        """What is kept of the shard; None when it is published here."""
        return self._shards[shard_id].waiting if shard_id in self._shards else None

    def about_to_go_on(self, shard_id: int, *, certain: bool = True) -> None:
        """What is kept of the shard is about to be published; with `certain=False`, it is not after all."""
        waiting = self.waiting(shard_id)
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
        shard = self.shard(shard_id)
        waiting, shard.waiting = shard.waiting, None
        if waiting is None:
            raise RuntimeError(f"nothing is kept of shard {shard_id}")
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
        present = shard.ledger
        if present is not None and id(present) not in heard:
            heard[id(present)] = (present, present.reopen(present.received))
        for ledger, last in heard.values():
            ledger.passed(last)
        self._router.joined(shard_id)
        return published

    def forget(self, shard_id: int) -> None:
        """Another process has the shard: what was taken of it is still published, and nothing more comes."""
        shard = self.shard(shard_id)
        shard.ledger = None
        if shard.waiting is not None:
            shard.waiting = None
            self._router.joined(shard_id)

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
        """As `ShardIntake.take`; frames that are no dispatch are nobody's."""
        return frame.op == DISPATCH and self.shard(shard_id).take(frame, tell)
