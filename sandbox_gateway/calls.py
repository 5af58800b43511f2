"""What a sandbox's bot did of late: its calls to Discord, and its sessions; no bodies, no tokens.

The last few hundred of each are kept in the control plane's Redis, so that every process writes to one ring.
It is for people who look for a fault: nothing waits for it, and what can't be written is gone.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec
import structlog

from sandbox_core import subjects, tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.redis.errors import translating

from .tenants import Tenant

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = structlog.get_logger("sandbox.client_gateway")

Kind = Literal["calls", "sessions"]

KEPT = 500
_FOR_MS = 6 * 3600 * 1000
_WAITING = 2000
_BATCH = 500
_AT_END_WITHIN = 1.0
_GATHERED = 0.1
"""For how long records are gathered, in seconds."""
_FIELD = "r"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call to Discord's REST API."""

    at: float
    """When it ended, in seconds since the epoch."""
    method: str
    route: str
    """The path without its values; empty for one that no rule has."""
    status: int
    """What the bot got."""
    refused: str
    """Why the call did not reach Discord; empty when it did."""
    ms: float
    """How long it took, in milliseconds, Discord included."""

    @property
    def time(self) -> datetime:
        """When it ended."""
        return datetime.fromtimestamp(self.at, UTC)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """Something that happened to a client's session."""

    at: float
    what: str
    """Such as `identified`, `resumed`, `closed`."""
    details: Mapping[str, Any]

    @property
    def time(self) -> datetime:
        """When it happened."""
        return datetime.fromtimestamp(self.at, UTC)


class Calls:
    """Writes records, later and together. `run` has to be running."""

    def __init__(
        self,
        redis: Redis,
        lives: Callable[[UUID], bool] = lambda _: True,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`lives` says whether a sandbox has not ended; `clock` is in seconds since the epoch."""
        self._redis = redis
        self._lives = lives
        self._clock = clock
        self._waiting: deque[tuple[Kind, UUID, bytes]] = deque()
        self._some = asyncio.Event()
        self.lost = 0
        """Records that could not be written."""

    def record_call(self, sandbox_id: UUID, record: CallRecord) -> None:
        """Keep a call."""
        self._put("calls", sandbox_id, record)

    def record_session(self, tenant: Tenant, what: str, details: Mapping[str, Any]) -> None:
        """Keep what happened to a session."""
        self._put("sessions", tenant.sandbox_id, SessionRecord(self._clock(), what, dict(details)))

    def _put(self, kind: Kind, sandbox_id: UUID, record: CallRecord | SessionRecord) -> None:
        if len(self._waiting) >= _WAITING:
            self.lost += 1
            return
        self._waiting.append((kind, sandbox_id, msgspec.json.encode(record)))
        self._some.set()

    async def run(self) -> None:
        """Write what is recorded, for ever."""
        while True:
            await self._some.wait()
            # A write for each call would cost more than the rest of what the guard does.
            await asyncio.sleep(_GATHERED)
            await self.write()

    async def write(self) -> None:
        """Write what is recorded by now."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
            try:
                await self._write(batch)
            except DependencyUnavailable as error:
                self.lost += len(batch)
                _log.debug("calls_not_recorded", reason=error.problem, number=len(batch))
        self._some.clear()

    async def _write(self, batch: list[tuple[Kind, UUID, bytes]]) -> None:
        keys: set[str] = set()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for kind, sandbox_id, text in batch:
                # Of one that has ended nothing is left.
                if not self._lives(sandbox_id):
                    continue
                key = subjects.ring_key(kind, sandbox_id)
                pipeline.xadd(key, {_FIELD: text}, maxlen=KEPT, approximate=True)
                keys.add(key)
            for key in keys:
                pipeline.pexpire(key, _FOR_MS)
            with translating():
                await pipeline.execute()


@asynccontextmanager
async def recording(redis: Redis, lives: Callable[[UUID], bool] = lambda _: True) -> AsyncIterator[Calls]:
    """Write records while the context is entered; for `lives` see `Calls`."""
    calls = Calls(redis, lives)
    task = asyncio.create_task(calls.run(), name="calls")
    try:
        yield calls
    finally:
        await tasks.end(task)
        with suppress(TimeoutError):
            async with asyncio.timeout(_AT_END_WITHIN):
                await calls.write()


class Ring:
    """Reads the records of one sandbox. Every method raises `DependencyUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, sandbox_id: UUID, make: Callable[..., Any], kind: Kind) -> None:
        self._redis = redis
        self._key = subjects.ring_key(kind, sandbox_id)
        self._make = make
        self._last = "-"

    @classmethod
    def of_calls(cls, redis: Redis, sandbox_id: UUID) -> Ring:
        """Return the ring of `CallRecord`s."""
        return cls(redis, sandbox_id, CallRecord, "calls")

    @classmethod
    def of_sessions(cls, redis: Redis, sandbox_id: UUID) -> Ring:
        """Return the ring of `SessionRecord`s."""
        return cls(redis, sandbox_id, SessionRecord, "sessions")

    async def last(self, number: int) -> list[Any]:
        """Return the newest records, oldest first."""
        with translating():
            found: Any = await self._redis.xrevrange(self._key, count=number)
        return self._records(found[::-1])

    async def further(self) -> list[Any]:
        """Return what has come since the last reading, oldest first."""
        begin = self._last if self._last == "-" else f"({self._last}"
        with translating():
            found: Any = await self._redis.xrange(self._key, min=begin, count=KEPT)
        return self._records(found)

    def _records(self, found: list[tuple[str, dict[str, str]]]) -> list[Any]:
        if found:
            self._last = found[-1][0]
        return [self._make(**json.loads(fields[_FIELD])) for _, fields in found]
