"""The gateway sessions of this process: where each can be resumed, in memory and kept in Redis.

A session is resumed from the last frame before which everything is acknowledged, never from the last one
received: what was received and not acknowledged when a process dies is replayed by Discord, and the
message ids make the repeats harmless. As a guild's route may have changed in between, a process that goes
on with another one's session first reads from the streams what is stored already, and passes over it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.event_router import GatewayIntake
from sandbox_core.lease_trust import LeaseTrust
from sandbox_core.metrics import Metrics
from sandbox_core.models import ResumePoint
from sandbox_core.nats.stored import StoredEvents

from . import tuning
from .resume_points import NEITHER, ResumePointStore
from .shard_session import ShardSession

_log = structlog.get_logger("sandbox.gateway")


class SessionBook:
    """Has the session of each shard, and writes its resume point at most every 100 ms.

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
        stored: StoredEvents | None = None,
        trust: LeaseTrust | None = None,
        stores_within: float = tuning.STORES_WAITED_FOR,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lease_epoch: Callable[[int], int] = lambda shard_id: 0
        """The epoch of this process's lease on a shard; 0 without."""
        self.stale_epoch: Callable[[int], int] = lambda shard_id: 0
        """A session saved under this epoch or an earlier one is not to be resumed."""
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
        self._sessions: dict[int, ShardSession] = {}
        self._connections = itertools.count(1)
        self._saving = asyncio.Lock()
        self._saver: asyncio.Task[None] | None = None

    def of(self, shard_id: int) -> ShardSession:
        """The shard's session; one of which nothing is known while there is none."""
        if shard_id not in self._sessions:
            self._sessions[shard_id] = ShardSession(
                shard_id, self._intake, self._metrics, self._connections.__next__, self._now
            )
        return self._sessions[shard_id]

    def connection(self, shard_id: int) -> int:
        """The number of the shard's connection; 0 while it has none with an established session."""
        session = self._sessions.get(shard_id)
        return 0 if session is None else session.connection

    def is_connected(self, shard_id: int) -> bool:
        """Whether the shard's session is established on a connection that stands."""
        return self.connection(shard_id) > 0

    async def open(self, application_id: int, shard_ids: Sequence[int], shard_count: int) -> None:
        """Load what an earlier process left, and begin to save.

        While neither store answers, they are asked again, for a while: nobody could tell where events go
        either, and Discord replays what comes meanwhile. When they can't tell all the same, a new session
        begins, which counts as a gap. NATS being away is waited for: without it nothing could be published.
        """
        self._application_id = application_id
        self._shard_count = shard_count
        for shard_id in shard_ids:
            await self._load(self.of(shard_id))
        self._intake.before_switch(self._save)
        self._saver = asyncio.get_running_loop().create_task(self._save_often(), name="session-saver")

    async def add(self, shard_id: int, shard_count: int, *, anew: bool = False) -> None:
        """This process runs the shard from now on: load what the process that ran it before has left.

        With `anew` a session begins: another process publishes the shard from one of its own. `shard_count`
        may differ from before only while no shard is run here.
        """
        self._shard_count = shard_count
        session = self.of(shard_id)
        if not anew:
            await self._load(session)

    async def remove(self, shard_id: int, *, save: bool) -> None:
        """This process runs the shard no more: forget its session.

        With `save` its resume point is written first; without, whoever has the shard by now writes it. Guilds
        may come and go while another process has the shard, so it is introduced again.
        """
        if save:
            await self._save()
        session = self._sessions.pop(shard_id, None)
        if session is not None:
            session.disconnected()
        self._intake.forget(shard_id)

    async def ended(self, shard_id: int) -> None:
        """Discord says that the session can't be resumed."""
        point = self.of(shard_id).refused()
        if point is None:
            return
        try:
            async with asyncio.timeout(tuning.STORES_WITHIN):
                await self._store.forget(self._application_id, shard_id, self._shard_count, point.session_id)
        except (DependencyUnavailable, TimeoutError):
            # Another process that tries it is refused in the same way, and identifies.
            _log.warning("session_not_forgotten", dependency="Redis or PostgreSQL", shard=shard_id)

    async def close(self) -> None:
        """Write the last resume points; call it after the drain."""
        if self._saver is not None:
            await tasks.end(self._saver)
            await self._save()
            if unsaved := [session.id for session, _ in self._due()]:
                # Discord replays more than it had to.
                _log.warning("stopped_with_older_resume_points", shards=unsaved)

    # What an earlier process left

    async def _load(self, session: ShardSession) -> None:
        try:
            point = await self._find(session.id)
        except (DependencyUnavailable, TimeoutError) as error:
            session.lose_track()
            dependency, reason = "Redis or PostgreSQL", "no answer in time"
            if isinstance(error, DependencyUnavailable):
                dependency, reason = error.dependency, error.reason
            _log.warning("session_not_loaded", shard=session.id, dependency=dependency, reason=reason)
            return
        if point is None:
            return
        if 0 < point.epoch <= self.stale_epoch(session.id):
            # A plugin published the shard since: what this session would replay is stored by other ids.
            session.lose_track()
            reason = "a plugin published the shard since"
            _log.warning("session_not_resumed", shard=session.id, reason=reason)
            return
        session.found(point, await self._read_stored(session.id, point))

    async def _find(self, shard_id: int) -> ResumePoint | None:
        until = self._monotonic() + self._stores_within
        waits = False
        while True:
            try:
                async with asyncio.timeout(tuning.STORES_WITHIN):
                    return await self._store.load(self._application_id, shard_id, self._shard_count)
            except DependencyUnavailable as error:
                if error.dependency != NEITHER or self._monotonic() >= until:
                    raise
            if not waits:
                _log.warning("session_waits", shard=shard_id, dependency=NEITHER)
            waits = True
            await asyncio.sleep(tuning.STORE_PAUSE)

    async def _read_stored(self, shard_id: int, point: ResumePoint) -> set[int]:
        stored = self._stored
        if stored is None:
            return set()
        return await tasks.until_answered(
            lambda: stored.sequences(point.session_id, shard_id, after=point.sequence, since=point.since),
            waits=lambda error: _log.warning("session_waits", shard=shard_id, dependency=error.dependency),
            pause=tuning.STORE_PAUSE,
        )

    # What the next one is to find

    async def _save_often(self) -> None:
        async def save() -> None:
            await asyncio.sleep(tuning.SAVE_EVERY)
            await self._save()

        # A process that saves no more is noticed only when it dies.
        await tasks.repeat(
            save, failed=lambda: _log.exception("resume_points_not_saved"), pause=tuning.AFTER_FAILURE
        )

    async def _save(self) -> None:
        async with self._saving:
            if self._monotonic() >= self._trust.until:
                return
            changed = list(self._due())
            if not changed:
                return
            points = {session.id: point for session, point in changed}
            try:
                async with asyncio.timeout(tuning.STORES_WITHIN):
                    await self._store.save(self._application_id, self._shard_count, points)
            except (DependencyUnavailable, TimeoutError):
                # Kept in memory; the next tick tries again, and a resume from an older point only repeats.
                return
            saved_at = self._monotonic()
            for session, point in changed:
                session.written(point, saved_at)

    def _due(self) -> Iterator[tuple[ShardSession, ResumePoint]]:
        now, at = self._now(), self._monotonic()
        for session in self._sessions.values():
            point = session.point_to_save(now, self.lease_epoch(session.id))
            if point is not None and session.is_due(point, at):
                yield session, point
