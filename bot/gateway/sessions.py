"""The gateway sessions of this process: where each can be resumed, in memory and kept in Redis.

A session is resumed from the last frame before which everything is acknowledged, never from the last one
received: what was received and not acknowledged when a process dies is replayed by Discord, and the
message ids make the repeats harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.event_router import GatewayIntake
from sandbox_core.metrics import Metrics
from sandbox_core.redis.gateway_sessions import GatewaySessions, ResumePoint

_log = structlog.get_logger("sandbox.gateway")

_SAVE_INTERVAL = 0.1
_LOAD_WITHIN = 2.0


class SessionBook:
    """Knows each shard's session, and writes its resume point at most every 100 ms."""

    def __init__(self, store: GatewaySessions, intake: GatewayIntake, metrics: Metrics) -> None:
        self._store = store
        self._intake = intake
        self._metrics = metrics
        self._application_id = 0
        self._shard_count = 1
        self.shard_ids: tuple[int, ...] = ()
        """The shards this process runs."""
        self.connected: set[int] = set()
        """The shards whose session is established: READY or RESUMED came on a connection that stands."""
        self.introduced: set[int] = set()
        """The shards of which discord.py has seen a READY, Discord's or one of our own."""
        self._resume_urls: dict[int, str] = {}
        self._found: dict[int, ResumePoint] = {}
        self._lost: set[int] = set()
        self._written: dict[int, ResumePoint] = {}
        self._saver: asyncio.Task[None] | None = None

    async def open(self, application_id: int, shard_ids: Sequence[int], shard_count: int) -> None:
        """Load what an earlier process left, and begin to save; Redis being away only means a new session."""
        self._application_id = application_id
        self._shard_count = shard_count
        await self._load(shard_ids)
        self.shard_ids = tuple(shard_ids)
        self._saver = asyncio.get_running_loop().create_task(self._save_often(), name="session-saver")

    async def add(self, shard_id: int, shard_count: int) -> None:
        """This process runs the shard from now on: load what the process that ran it before has left.

        `shard_count` may differ from before only while no shard is run here.
        """
        self._shard_count = shard_count
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
        self._written.pop(shard_id, None)
        # Guilds may come and go while another process has the shard.
        self.introduced.discard(shard_id)
        self._intake.forget(shard_id)

    async def _load(self, shard_ids: Sequence[int]) -> None:
        try:
            async with asyncio.timeout(_LOAD_WITHIN):
                for shard_id in shard_ids:
                    point = await self._store.load(self._application_id, shard_id, self._shard_count)
                    if point is not None:
                        self._found[shard_id] = point
        except (DependencyUnavailable, TimeoutError):
            _log.warning("sessions_not_loaded", dependency="Redis")

    @property
    def all_connected(self) -> bool:
        """True while every shard of this process has an established session."""
        return bool(self.shard_ids) and self.connected.issuperset(self.shard_ids)

    def established(self, shard_id: int) -> None:
        """READY or RESUMED came."""
        self.connected.add(shard_id)
        self._metrics.gateway_connected.labels(shard=shard_id).set(1)

    def disconnected(self, shard_id: int) -> None:
        """The shard's connection ended; its session may well go on."""
        self.connected.discard(shard_id)
        self._metrics.gateway_connected.labels(shard=shard_id).set(0)

    async def close(self) -> None:
        """Write the last resume points; call it after the drain."""
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.gather(self._saver, return_exceptions=True)
            await self._save()

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
        self._intake.adopt(point.session_id, shard_id, point.sequence)

    def use_instead(self, shard_id: int, url: str) -> None:
        """The resume URL does not answer: resume at `url` from now on."""
        point = self.resume_point(shard_id)
        if point is not None:
            self.resuming(shard_id, ResumePoint(point.session_id, url, point.sequence))

    def began(self, shard_id: int, resume_url: str) -> None:
        """READY came: a new session, which the intake knows already."""
        if shard_id in self._lost:
            self._lost.discard(shard_id)
            # Between the old session's last frame and this one's first, Discord may have had events.
            self._metrics.gateway_gaps.inc()
            _log.error("session_lost", shard=shard_id, consequence="events in between may be missing")
        self._resume_urls[shard_id] = resume_url
        self.introduced.add(shard_id)

    async def ended(self, shard_id: int) -> None:
        """Discord says that the session can't be resumed."""
        had_one = shard_id in self._resume_urls or shard_id in self._found
        if had_one:
            self._lost.add(shard_id)
        self._resume_urls.pop(shard_id, None)
        self._found.pop(shard_id, None)
        self._written.pop(shard_id, None)
        try:
            async with asyncio.timeout(_LOAD_WITHIN):
                await self._store.forget(self._application_id, shard_id, self._shard_count)
        except (DependencyUnavailable, TimeoutError):
            # Another process that tries it is refused in the same way, and identifies.
            _log.warning("session_not_forgotten", dependency="Redis", shard=shard_id)

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_INTERVAL)
            await self._save()

    async def _save(self) -> None:
        changed: dict[int, ResumePoint] = {}
        for shard_id, url in self._resume_urls.items():
            ledger = self._intake.ledger(shard_id)
            if ledger is None:
                continue
            point = ResumePoint(ledger.session_id, url, ledger.acknowledged)
            if self._written.get(shard_id) != point:
                changed[shard_id] = point
        if not changed:
            return
        try:
            async with asyncio.timeout(_LOAD_WITHIN):
                await self._store.save(self._application_id, self._shard_count, changed)
        except (DependencyUnavailable, TimeoutError):
            # Kept in memory; the next tick tries again, and a resume from an older point only repeats.
            return
        self._written.update(changed)
