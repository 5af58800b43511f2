"""From the bytes of a gateway connection to the router: frames are read, sessions told apart."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import structlog

from sandbox_core.events import DISPATCH, Frame, FrameError, read_frame

from .ledger import ShardLedger
from .router import EventRouter

_log = structlog.get_logger("sandbox.gateway")


class _ReadyData(msgspec.Struct):
    session_id: str
    shard: tuple[int, int] = (0, 1)


class _Ready(msgspec.Struct):
    d: _ReadyData


_read_ready = msgspec.json.Decoder(_Ready).decode


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
        self.owner_ids: frozenset[str] = frozenset()
        """Users whose commands in direct messages somebody here carries out; those are not published."""

    @property
    def full(self) -> bool:
        """True when a source that can wait should await `room` before it reads on."""
        return self._router.full

    async def room(self) -> None:
        """Return when the router takes more frames."""
        await self._router.room()

    def ledger(self, shard_id: int) -> ShardLedger | None:
        """The bookkeeping of the shard's present session, or None before its first READY."""
        return self._ledgers.get(shard_id)

    def watched_for(self, guild_id: str, shard_count: int) -> float:
        """Seconds since when the guild's events come to this process; 0 while another has its shard.

        A session that is resumed after a lost connection goes on: what was missed meanwhile is replayed. A
        guild's shard is `(guild_id >> 22) % shard_count` (Discord's developer documentation, "Gateway",
        sharding).
        """
        shard_id = (int(guild_id) >> 22) % shard_count
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

    def lose(self, shard_id: int) -> None:
        """Another process has the shard's session, and Discord replays there what is not acknowledged here.

        That is published here no more.
        """
        ledger = self._ledgers.get(shard_id)
        if ledger is not None and not ledger.lost:
            discarded = self._router.discard(ledger)
            if discarded:
                _log.warning("events_left_to_the_new_holder", shard=shard_id, events=discarded)

    def forget(self, shard_id: int) -> None:
        """Another process has the shard: what was taken of it is still published, and nothing more comes."""
        self._ledgers.pop(shard_id, None)
        self._since.pop(shard_id, None)

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

    def take(self, frame: Frame, shard_id: int) -> None:
        """Hand a frame of this shard to the router; frames that are no dispatch are nobody's."""
        if frame.op != DISPATCH:
            return
        if frame.type == "READY":
            session_id = ready_session(frame)[0]
            self._begin(ShardLedger(session_id, shard_id))
        ledger = self._ledgers.get(shard_id)
        if ledger is None:
            # Discord sends nothing before READY or the replay of a resumed session.
            self._router.count_dropped("no_session")
            _log.error("frame_without_session", shard=shard_id, type=frame.type)
            return
        self._router.route(frame, ledger)


def ready_session(frame: Frame) -> tuple[str, int]:
    """The session id and shard that a READY frame announces."""
    data = _read_ready(frame.raw).d
    return data.session_id, data.shard[0]
