"""Where each shard's session can be resumed: kept in Redis, and in PostgreSQL while Redis is away.

A copy a few seconds old is always in PostgreSQL: who takes over a shard while Redis is away resumes from it,
with a longer replay.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import ResumePoint
from sandbox_core.moments import is_past

from . import tuning

_log = structlog.get_logger("sandbox.gateway")


_LONGEST_SESSION_ID = 256
# Numbers of Lua, and of many a reader of JSON, end there.
_LARGEST = 1 << 53
# Discord keeps a session for some minutes.
_RESUMABLE_FOR = 600.0

NEITHER = "Redis and PostgreSQL"
"""The dependency named when neither store answers."""


class ResumePointStore(Protocol):
    """Keeps resume points. Every method raises `DependencyUnavailable` when its server is away."""

    async def load(self, application_id: int, shard_id: int, shard_count: int) -> ResumePoint | None:
        """The shard's resume point, or None when there is none that can be used."""

    async def save(self, application_id: int, shard_count: int, points: Mapping[int, ResumePoint]) -> None:
        """Keep these shards' resume points, but for those that would go back.

        A point is not kept when the present one was saved under a later epoch: whoever has the shard now
        knows what the earlier holder can't, also of the same session. Nor is one of the same session with a
        lower sequence.
        """

    async def forget(self, application_id: int, shard_id: int, shard_count: int, session_id: str) -> None:
        """This session is gone: nobody may try to resume it again. A newer session's point stays."""


class ResumePoints:
    """Both stores as one; of two points of a shard the later counts.

    A server that is merely slow counts as away. `monotonic` is in seconds, `now` in seconds since the epoch.
    """

    def __init__(
        self,
        redis: ResumePointStore,
        postgres: ResumePointStore,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._now = now
        self._postgres = postgres
        self._monotonic = monotonic
        self._stores = (("Redis", redis), ("PostgreSQL", postgres))
        self._rest_until = 0.0
        self._told = False
        """That Redis does not take them was logged."""
        self._copied_at: dict[int, float] = {}

    async def load(self, application_id: int, shard_id: int, shard_count: int) -> ResumePoint | None:
        """The shard's latest resume point.

        Raises `DependencyUnavailable` when one server does not answer and the other has none: there may be
        one all the same. With neither answering it names `NEITHER`.
        """
        found: list[ResumePoint] = []
        failures: list[DependencyUnavailable] = []
        for dependency, store in self._stores:
            try:
                async with _patience(dependency):
                    point = await store.load(application_id, shard_id, shard_count)
            except DependencyUnavailable as error:
                failures.append(error)
            else:
                believed = None if point is None else _believed(point, self._now())
                found += [] if believed is None else [believed]
        if len(failures) == len(self._stores):
            raise DependencyUnavailable(NEITHER, failures[0].reason)
        if failures and not found:
            raise failures[0]
        return functools.reduce(_later, found) if found else None

    async def save(self, application_id: int, shard_count: int, points: Mapping[int, ResumePoint]) -> None:
        """Keep these resume points in one of the servers.

        Raises `DependencyUnavailable` when neither takes them.
        """
        if self._monotonic() >= self._rest_until:
            try:
                async with _patience("Redis"):
                    await self._redis.save(application_id, shard_count, points)
            except DependencyUnavailable as error:
                self._rest_until = self._monotonic() + tuning.STORE_RESTS_FOR
                if not self._told:
                    _log.warning("resume_points_kept_in_postgres", dependency="Redis", reason=error.reason)
                self._told = True
            else:
                self._told = False
                await self._copy(application_id, shard_count, points)
                return
        async with _patience("PostgreSQL"):
            await self._postgres.save(application_id, shard_count, points)

    async def _copy(self, application_id: int, shard_count: int, points: Mapping[int, ResumePoint]) -> None:
        now = self._monotonic()
        due = {
            shard_id: point
            for shard_id, point in points.items()
            if now - self._copied_at.get(shard_id, -math.inf) >= tuning.COPY_EVERY
        }
        if not due:
            return
        self._copied_at.update(dict.fromkeys(due, now))
        try:
            async with _patience("PostgreSQL"):
                await self._postgres.save(application_id, shard_count, due)
        except DependencyUnavailable as error:
            # Redis has them, and the next copy is soon.
            _log.debug("resume_points_not_copied", dependency="PostgreSQL", reason=error.reason)

    async def forget(self, application_id: int, shard_id: int, shard_count: int, session_id: str) -> None:
        """Forget this session of the shard in both. Raises `DependencyUnavailable` when one could not."""
        failure: DependencyUnavailable | None = None
        for dependency, store in self._stores:
            try:
                async with _patience(dependency):
                    await store.forget(application_id, shard_id, shard_count, session_id)
            except DependencyUnavailable as error:
                failure = failure or error
        if failure is not None:
            raise failure


def _believed(point: ResumePoint, now: float) -> ResumePoint | None:
    """The point as far as a process can have saved it: its values become headers and numbers elsewhere.

    A time still to come says nothing: it must neither win nor hide what was stored.
    """
    session_id = point.session_id
    if not (
        0 < len(session_id) <= _LONGEST_SESSION_ID
        and session_id.isascii()
        and session_id.isprintable()
        and 0 <= point.sequence < _LARGEST
        and 0 <= point.epoch < _LARGEST
    ):
        _log.warning("resume_point_not_believed")
        return None
    since = point.since if is_past(point.since, now) else now - _RESUMABLE_FOR
    saved_at = point.saved_at if is_past(point.saved_at, now) else 0.0
    return replace(point, since=since, saved_at=saved_at)


def _later(one: ResumePoint, other: ResumePoint) -> ResumePoint:
    if one.session_id == other.session_id:
        return max(one, other, key=lambda point: (point.sequence, point.saved_at))
    if one.epoch and other.epoch and one.epoch != other.epoch:
        return max(one, other, key=lambda point: point.epoch)
    return max(one, other, key=lambda point: point.saved_at)


@asynccontextmanager
async def _patience(dependency: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(tuning.STORE_WITHIN):
            yield
    except TimeoutError:
        raise DependencyUnavailable(dependency, "no answer in time") from None
