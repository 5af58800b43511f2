"""Goes on with a shard that another process has published, from a session of its own.

That is so for a plugin, whose session is its bot's, and for everybody who follows one, or who has another
number of shards than the one before. While the other process publishes, this one keeps what its own session
brings. When the other is gone, both streams are read back, and what they do not hold is published, in order,
before anything that comes later.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from sandbox_core import tasks
from sandbox_core.event_router import GatewayIntake
from sandbox_core.event_router.waiting import WaitingFrames
from sandbox_core.events import Frame
from sandbox_core.metrics import Metrics

from . import tuning
from .joining import Copy, Kept, key_of, stored_places
from .lease_types import Before

_log = structlog.get_logger("sandbox.gateway")

_KEYS_BETWEEN_YIELDS = 500


class ReadsContents(Protocol):
    """Reads stored events back; see `StoredContents`."""

    async def read(
        self, guild_ids: Collection[str], since: float, found: Callable[[str, bytes, float], None]
    ) -> None: ...


@dataclass
class _Shard:
    """What is known of a shard besides what is kept of it."""

    renewed_at: float | None = None
    """When the process that publishes it was seen last to renew its lease; on the monotonic clock."""
    joining: asyncio.Task[None] | None = None
    """Makes this process go on with it."""


class Succession:
    """Stands by for shards, and goes on with them.

    `connected` tells whether a shard's session is established and has caught up. `now` is in seconds since
    the epoch, `monotonic` and `sleep` are in seconds.
    """

    def __init__(
        self,
        intake: GatewayIntake,
        contents: ReadsContents,
        metrics: Metrics,
        connected: Callable[[int], bool],
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._intake = intake
        self._contents = contents
        self._metrics = metrics
        self._connected = connected
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._shards: defaultdict[int, _Shard] = defaultdict(_Shard)

    def stand_by(self, shard_id: int) -> None:
        """Keep what comes of the shard from now on."""
        self._intake.stand_by(shard_id)

    def published_elsewhere(self, shard_id: int, before: Before) -> None:
        """Another process publishes the shard; what it has stored need not be kept."""
        shard = self._shards[shard_id]
        if before.renewed_at is not None:
            shard.renewed_at = before.renewed_at
        if before.settled_at is not None:
            waiting = self._intake.waiting(shard_id)
            if waiting is not None and shard.joining is None:
                waiting.stored_before(before.settled_at - tuning.KEPT_LONGER)

    def go_on(self, shard_id: int, before: Before | None) -> None:
        """The shard is this process's now; `before` is None when nobody had it. Returns at once."""
        waiting, shard = self._intake.waiting(shard_id), self._shards[shard_id]
        if waiting is None or shard.joining is not None:
            return
        self._intake.about_to_go_on(shard_id)
        shard.joining = asyncio.create_task(self._go_on(shard_id, waiting, before), name=f"join-{shard_id}")
        shard.joining.add_done_callback(lambda task: self._joined(shard_id, task))

    def give_way(self, shard_id: int) -> None:
        """Another process has the shard: publish nothing more of it, and keep what comes."""
        self.forget(shard_id)
        self._intake.give_way(shard_id)

    def forget(self, shard_id: int) -> None:
        """The shard's session here is over."""
        self._stop_joining(shard_id)
        self._shards[shard_id].renewed_at = None

    async def close(self) -> None:
        """Go on with nothing more."""
        joining = [shard.joining for shard in self._shards.values() if shard.joining is not None]
        for shard_id in self._shards:
            self._stop_joining(shard_id)
        await tasks.end(*joining)

    def _stop_joining(self, shard_id: int) -> None:
        shard = self._shards[shard_id]
        if shard.joining is not None:
            shard.joining.cancel()
            shard.joining = None
            self._intake.about_to_go_on(shard_id, certain=False)

    def _joined(self, shard_id: int, task: asyncio.Task[None]) -> None:
        shard = self._shards[shard_id]
        if shard.joining is task:
            shard.joining = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("shard_not_joined", shard=shard_id, exc_info=error)

    async def _go_on(self, shard_id: int, waiting: WaitingFrames, before: Before | None) -> None:
        # While it is away, events are missing here that the other one may have stored.
        while not self._connected(shard_id):
            await self._sleep(tuning.CONNECTED_LOOK)
        if before is None:
            self._intake.go_on(shard_id, lambda place: False)
            return
        settled_at = before.settled_at
        exact = self._lived_together(shard_id, waiting, settled_at)
        # What the other one has stored has to have arrived here, too.
        await self._sleep(tuning.APART)
        copies = await self._copies(shard_id, waiting, settled_at)
        keys = await self._keys(waiting)
        # From here on nothing is awaited: what comes next is published at once, behind these.
        kept = [self._kept(frame, keys.get(id(frame)), settled_at) for frame, _ in waiting.frames]
        stored = stored_places(kept, copies)
        if exact:
            stored |= {
                place for place, (frame, _) in enumerate(waiting.frames) if id(frame) in waiting.snapshots
            }
        published = self._intake.go_on(shard_id, stored.__contains__)
        self._shards[shard_id].renewed_at = None
        _log.info("shard_joined", shard=shard_id, kept=len(kept), stored=len(stored), published=published)
        if not exact:
            self._count_gap(shard_id, settled_at)

    def _lived_together(self, shard_id: int, waiting: WaitingFrames, settled_at: float | None) -> bool:
        """Whether everything that the other one did not store is among what was kept."""
        since = waiting.complete_since
        if settled_at is not None and settled_at >= since:
            return True
        live_at = self._shards[shard_id].renewed_at
        if live_at is None or live_at - tuning.TOGETHER < since:
            return False
        # It was there and settled nothing: nothing may have happened, of which both would have heard.
        return waiting.first_at is None or waiting.first_at > live_at - tuning.TOGETHER

    def _count_gap(self, shard_id: int, settled_at: float | None) -> None:
        if settled_at is not None and self._monotonic() - settled_at > tuning.SESSION_KEPT:
            # Nobody published for long, and no session could have brought what happened meanwhile.
            _log.info("shard_published_anew", shard=shard_id)
            return
        self._metrics.gateway_gaps.inc()
        _log.error(
            "session_lost",
            shard=shard_id,
            reason="who published the shard before stopped before this process kept its events",
            consequence="events in between may be missing",
        )

    async def _copies(
        self, shard_id: int, waiting: WaitingFrames, settled_at: float | None
    ) -> Mapping[str, list[Copy]]:
        unsettled = [frame for frame, _ in waiting.frames if not _is_settled(frame.received_at, settled_at)]
        copies: defaultdict[str, list[Copy]] = defaultdict(list)
        if not unsettled:
            return copies
        lanes = {frame.guild_id or "" for frame in unsettled}
        since = self._wall(unsettled[0].received_at) - tuning.KEPT_LONGER

        def found(lane: str, payload: bytes, at: float) -> None:
            copies[lane].append(Copy(key_of(payload), at))

        async def read() -> None:
            copies.clear()
            await self._contents.read(lanes, since, found)

        await tasks.until_answered(
            read,
            waits=lambda error: _log.warning("shard_waits", shard=shard_id, dependency=error.dependency),
            pause=tuning.STORE_PAUSE,
            sleep=self._sleep,
        )
        return copies

    async def _keys(self, waiting: WaitingFrames) -> dict[int, bytes]:
        keys: dict[int, bytes] = {}
        for number, (frame, _) in enumerate(list(waiting.frames)):
            keys[id(frame)] = key_of(frame.raw)
            if number % _KEYS_BETWEEN_YIELDS == _KEYS_BETWEEN_YIELDS - 1:
                await asyncio.sleep(0)
        return keys

    def _kept(self, frame: Frame, key: bytes | None, settled_at: float | None) -> Kept:
        return Kept(
            key or key_of(frame.raw),
            frame.guild_id or "",
            self._wall(frame.received_at),
            is_settled=_is_settled(frame.received_at, settled_at),
        )

    def _wall(self, moment: float) -> float:
        return self._now() - (self._monotonic() - moment)


def _is_settled(received_at: float, settled_at: float | None) -> bool:
    return settled_at is not None and received_at < settled_at - tuning.SETTLED_MARGIN
