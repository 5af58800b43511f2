"""The gateway sessions of this process: where each can be resumed, in memory and kept in Redis.

A session is resumed from the last frame before which everything is acknowledged, never from the last one
received: what was received and not acknowledged when a process dies is replayed by Discord, and the
message ids make the repeats harmless. As a guild's route may have changed in between, a process that goes
on with another one's session first reads from the streams what is stored already, and passes over it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.event_router import GatewayIntake
from sandbox_core.lease_trust import LeaseTrust
from sandbox_core.metrics import Metrics
from sandbox_core.models import ResumePoint
from sandbox_core.sharding.resume_points import NEITHER, ResumePointStore

_log = structlog.get_logger("sandbox.gateway")

_SAVE_INTERVAL = 0.1
_FAILED_PAUSE = 1.0
_REFRESH_AFTER = 10.0
_LOAD_WITHIN = 3.0
_NATS_PAUSE = 0.25
_STORES_PAUSE = 0.25
# Discord keeps a session for a few minutes; most of what a crash cost is replayed by then.
_STORES_WITHIN = 60.0
_MOST_MARKS = 1000
_FORGOTTEN_AFTER = 900.0


class ReadsStored(Protocol):
    """Which events of a session are stored; see `StoredEvents`."""

    async def sequences(self, session_id: str, shard_id: int, *, after: int, since: float) -> set[int]: ...


class _Receipts:
    """When a session's frames were received, to within one save.

    A mark is a moment and a sequence: no later frame was received, or published, before that moment.
    """

    def __init__(self, session_id: str, moment: float, sequence: int, stored: Iterable[int] = ()) -> None:
        self.session_id = session_id
        self._marks = deque([(moment, sequence)])
        # Up to here another process may have published, at any time since it began to.
        self._inherited = max(stored, default=0)
        self._apart = 0.0

    def mark(self, now: float, received: int) -> None:
        """`received` is the highest sequence received until `now`."""
        sequence = max(received, self._inherited)
        marks = self._marks
        if len(marks) > 1 and (marks[-1][1] == sequence or marks[-1][0] - marks[-2][0] < self._apart):
            marks.pop()
        marks.append((now, sequence))
        if len(marks) > _MOST_MARKS:
            # One frame is not acknowledged for long. An earlier moment is as right as a later one.
            self._apart = 2 * (marks[-1][0] - marks[0][0]) / _MOST_MARKS
            self._marks = deque(list(marks)[::2])

    def since(self, sequence: int) -> float:
        """The latest moment known before which no frame after `sequence` was received."""
        while len(self._marks) > 1 and self._marks[1][1] <= sequence:
            self._marks.popleft()
            self._apart = 0.0
        return self._marks[0][0]


class SessionBook:
    """Knows each shard's session, and writes its resume point at most every 100 ms.

    While `trust` does not hold it writes nothing: another process may have the sessions. For what an earlier
    process left it waits at most `stores_within` seconds. `now` is in seconds since the epoch, `monotonic` in
    seconds.
    """

    def __init__(
        self,
        store: ResumePointStore,
        intake: GatewayIntake,
        metrics: Metrics,
        *,
        stored: ReadsStored | None = None,
        trust: LeaseTrust | None = None,
        stores_within: float = _STORES_WITHIN,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._stores_within = stores_within
        self._stored = stored
        self._trust = trust or LeaseTrust()
        self._intake = intake
        self._metrics = metrics
        self._now = now
        self._monotonic = monotonic
        self._application_id = 0
        self._shard_count = 1
        self.shard_ids: tuple[int, ...] = ()
        """The shards this process runs."""
        self.connected: set[int] = set()
        """The shards whose session is established: READY or RESUMED came on a connection that stands."""
        self._connections: Counter[int] = Counter()
        """By shard, how many connections had an established session."""
        self.introduced: set[int] = set()
        """The shards of which discord.py has seen a READY, Discord's or one of our own."""
        self.lease_epoch: Callable[[int], int] = lambda shard_id: 0
        """The epoch of this process's lease on a shard; 0 without."""
        self.stale_epoch: Callable[[int], int] = lambda shard_id: 0
        """A session saved under this epoch or an earlier one is not to be resumed."""
        self._epochs: dict[int, int] = {}
        """The latest epoch known of each shard's session."""
        self._resume_urls: dict[int, str] = {}
        self._found: dict[int, ResumePoint] = {}
        self._published: dict[int, set[int]] = {}
        """By shard, the sequences after the point found whose events are stored."""
        self._receipts: dict[int, _Receipts] = {}
        self._lost: set[int] = set()
        """Shards whose next READY may leave a gap: their session was refused, or is not known."""
        self._disowned: set[int] = set()
        self._written: dict[int, tuple[ResumePoint, float]] = {}
        self._saving = asyncio.Lock()
        self._saver: asyncio.Task[None] | None = None

    async def open(self, application_id: int, shard_ids: Sequence[int], shard_count: int) -> None:
        """Load what an earlier process left, and begin to save.

        While neither store answers, they are asked again, for a while: nobody could tell where events go
        either, and Discord replays what comes meanwhile. When they can't tell all the same, a new session
        begins, which counts as a gap. NATS being away is waited for: without it nothing could be published.
        """
        self._application_id = application_id
        self._shard_count = shard_count
        await self._load(shard_ids)
        self.shard_ids = tuple(shard_ids)
        self._intake.before_switch(self._save)
        self._saver = asyncio.get_running_loop().create_task(self._save_often(), name="session-saver")

    async def add(self, shard_id: int, shard_count: int, *, anew: bool = False) -> None:
        """This process runs the shard from now on: load what the process that ran it before has left.

        With `anew` a session begins: another process publishes the shard from one of its own. `shard_count`
        may differ from before only while no shard is run here.
        """
        self._shard_count = shard_count
        if not anew:
            await self._load((shard_id,))
        self.shard_ids = (*self.shard_ids, shard_id)

    async def remove(self, shard_id: int, *, save: bool) -> None:
        """This process runs the shard no more: forget its session.

        With `save` its resume point is written first; without, whoever has the shard by now writes it.
        """
        if save:
            await self._save()
        self.shard_ids = tuple(other for other in self.shard_ids if other != shard_id)
        self.disconnected(shard_id)
        self._resume_urls.pop(shard_id, None)
        self._found.pop(shard_id, None)
        self._published.pop(shard_id, None)
        self._epochs.pop(shard_id, None)
        self._receipts.pop(shard_id, None)
        self._written.pop(shard_id, None)
        self._disowned.discard(shard_id)
        self._lost.discard(shard_id)
        # Guilds may come and go while another process has the shard.
        self.introduced.discard(shard_id)
        self._intake.forget(shard_id)

    def lose(self, shard_id: int) -> None:
        """Another process has the shard: from now on nothing of its session is published or saved here."""
        self._disowned.add(shard_id)
        # A session that Discord has ended is replayed to nobody: what was taken of it is still published.
        if shard_id in self._resume_urls:
            self._intake.lose(shard_id)

    async def _load(self, shard_ids: Sequence[int]) -> None:
        until = self._monotonic() + self._stores_within
        for shard_id in shard_ids:
            try:
                point = await self._find(shard_id, until)
            except (DependencyUnavailable, TimeoutError) as error:
                # There may be one: the session that begins instead leaves out what it would have replayed.
                self._lost.add(shard_id)
                reason = str(error) or "no answer in time"
                _log.warning(
                    "session_not_loaded", dependency="Redis or PostgreSQL", shard=shard_id, reason=reason
                )
                continue
            if point is not None and 0 < point.epoch <= self.stale_epoch(shard_id):
                # A plugin published the shard since: what this session would replay is stored by other ids.
                self._lost.add(shard_id)
                _log.warning(
                    "session_not_resumed", shard=shard_id, reason="a plugin published the shard since"
                )
            elif point is not None:
                self._found[shard_id] = point
                self._epochs[shard_id] = point.epoch
        for shard_id in shard_ids:
            if shard_id in self._found:
                self._published[shard_id] = await self._read_stored(shard_id, self._found[shard_id])

    async def _find(self, shard_id: int, until: float) -> ResumePoint | None:
        waits = False
        while True:
            try:
                async with asyncio.timeout(_LOAD_WITHIN):
                    return await self._store.load(self._application_id, shard_id, self._shard_count)
            except DependencyUnavailable as error:
                if error.dependency != NEITHER or self._monotonic() >= until:
                    raise
            if not waits:
                _log.warning("session_waits", shard=shard_id, dependency=NEITHER)
            waits = True
            await asyncio.sleep(_STORES_PAUSE)

    async def _read_stored(self, shard_id: int, point: ResumePoint) -> set[int]:
        if self._stored is None:
            return set()
        waits = False
        while True:
            try:
                return await self._stored.sequences(
                    point.session_id, shard_id, after=point.sequence, since=point.since
                )
            except DependencyUnavailable as error:
                if not waits:
                    _log.warning("session_waits", shard=shard_id, dependency=error.dependency)
                waits = True
                await asyncio.sleep(_NATS_PAUSE)

    def established(self, shard_id: int) -> None:
        """READY or RESUMED came."""
        self.connected.add(shard_id)
        self._connections[shard_id] += 1
        self._metrics.gateway_connected.labels(shard=shard_id).set(1)

    def connection(self, shard_id: int) -> int:
        """The number of the shard's connection; 0 while it has none with an established session."""
        return self._connections[shard_id] if shard_id in self.connected else 0

    def disconnected(self, shard_id: int) -> None:
        """The shard's connection ended; its session may well go on."""
        self.connected.discard(shard_id)
        self._metrics.gateway_connected.labels(shard=shard_id).set(0)

    async def close(self) -> None:
        """Write the last resume points; call it after the drain."""
        if self._saver is not None:
            await tasks.end(self._saver)
            await self._save()
            if unsaved := [shard_id for shard_id, point in self._points() if self._is_due(shard_id, point)]:
                # Discord replays more than it had to.
                _log.warning("stopped_with_older_resume_points", shards=unsaved)

    def resume_point(self, shard_id: int) -> ResumePoint | None:
        """Where to resume the shard now, or None when it has to identify."""
        ledger = self._intake.ledger(shard_id)
        url = self._resume_urls.get(shard_id)
        if ledger is not None and url is not None:
            # What this process has received it keeps until it is acknowledged: no replay is needed.
            return ResumePoint(ledger.session_id, url, ledger.received)
        return self._found.get(shard_id)

    def resuming(self, shard_id: int, point: ResumePoint) -> None:
        """The shard sends RESUME: its frames belong to this session."""
        self._found.pop(shard_id, None)
        self._resume_urls[shard_id] = point.resume_url
        stored = self._published.pop(shard_id, set())
        self._intake.adopt(point.session_id, shard_id, point.sequence, stored)
        receipts = self._receipts.get(shard_id)
        if receipts is None or receipts.session_id != point.session_id:
            self._receipts[shard_id] = _Receipts(point.session_id, point.since, point.sequence, stored)

    def use_instead(self, shard_id: int, url: str) -> None:
        """The resume URL does not answer: resume at `url` from now on."""
        point = self.resume_point(shard_id)
        if point is not None:
            self.resuming(shard_id, replace(point, resume_url=url))

    def began(self, shard_id: int, resume_url: str) -> None:
        """READY came: a new session, which the intake knows already."""
        if shard_id in self._lost and self._intake.waiting(shard_id) is not None:
            # Another process publishes the shard: whether events are missing is judged when it is gone.
            self._lost.discard(shard_id)
        if shard_id in self._lost:
            self._lost.discard(shard_id)
            # Between the old session's last frame and this one's first, Discord may have had events.
            self._metrics.gateway_gaps.inc()
            _log.error("session_lost", shard=shard_id, consequence="events in between may be missing")
        self._resume_urls[shard_id] = resume_url
        ledger = self._intake.ledger(shard_id)
        if ledger is not None:
            self._receipts[shard_id] = _Receipts(ledger.session_id, self._now(), 0)
        self.introduced.add(shard_id)

    async def ended(self, shard_id: int) -> None:
        """Discord says that the session can't be resumed."""
        refused = self.resume_point(shard_id)
        if refused is not None:
            self._lost.add(shard_id)
        self._resume_urls.pop(shard_id, None)
        self._found.pop(shard_id, None)
        self._published.pop(shard_id, None)
        self._receipts.pop(shard_id, None)
        self._written.pop(shard_id, None)
        if refused is None:
            return
        try:
            async with asyncio.timeout(_LOAD_WITHIN):
                await self._store.forget(
                    self._application_id, shard_id, self._shard_count, refused.session_id
                )
        except (DependencyUnavailable, TimeoutError):
            # Another process that tries it is refused in the same way, and identifies.
            _log.warning("session_not_forgotten", dependency="Redis or PostgreSQL", shard=shard_id)

    async def _save_often(self) -> None:
        async def save() -> None:
            await asyncio.sleep(_SAVE_INTERVAL)
            await self._save()

        await tasks.repeat(
            save, failed=lambda: _log.exception("resume_points_not_saved"), pause=_FAILED_PAUSE
        )

    async def _save(self) -> None:
        async with self._saving:
            if self._monotonic() >= self._trust.until:
                return
            changed = {shard_id: point for shard_id, point in self._points() if self._is_due(shard_id, point)}
            if not changed:
                return
            try:
                async with asyncio.timeout(_LOAD_WITHIN):
                    await self._store.save(self._application_id, self._shard_count, changed)
            except (DependencyUnavailable, TimeoutError):
                # Kept in memory; the next tick tries again, and a resume from an older point only repeats.
                return
            saved_at = self._monotonic()
            for shard_id, point in changed.items():
                self._written[shard_id] = (point, saved_at)

    def _points(self) -> Iterable[tuple[int, ResumePoint]]:
        now = self._now()
        for shard_id, url in self._resume_urls.items():
            if shard_id in self._disowned or self._intake.waiting(shard_id) is not None:
                continue
            ledger, receipts = self._intake.ledger(shard_id), self._receipts.get(shard_id)
            if ledger is None or receipts is None or receipts.session_id != ledger.session_id:
                continue
            receipts.mark(now, ledger.received)
            done = ledger.acknowledged
            # Who runs the shard without a lease, PostgreSQL being away, goes on in place of whom it found;
            # and a database that is restored from a copy counts from an earlier epoch again.
            epoch = max(self.lease_epoch(shard_id), self._epochs.get(shard_id, 0))
            self._epochs[shard_id] = epoch
            yield shard_id, ResumePoint(ledger.session_id, url, done, receipts.since(done), now, epoch)

    def _is_due(self, shard_id: int, point: ResumePoint) -> bool:
        written, saved_at = self._written.get(shard_id, (None, 0.0))
        if written is None or self._monotonic() - saved_at >= _REFRESH_AFTER:
            # Also a quiet shard's point has to outlive what the stores keep, and to tell a recent moment.
            return True
        now = (point.session_id, point.resume_url, point.sequence, point.epoch)
        return now != (written.session_id, written.resume_url, written.sequence, written.epoch)
