"""When each guild last had an event in production, over the last day, whichever process published it.

Whoever takes a guild away from production is told first. On the event path one dictionary is written, see
`Activity`. Once a second what is new goes to a record in Redis that all processes share. A process that
starts, or finds the record gone, reads the stream as far back as a bounded number of messages allows: so the
record is soon complete again, and it always says as of when it is.

A process that is killed leaves at most its last second unwritten; the next one that starts finds that in the
stream.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.stream_guilds import Found, StreamGuilds
from sandbox_core.redis.last_events import LastEventRecord, RecordState

from .activity import Activity

_log = structlog.get_logger("sandbox.router")

DAY = 86_400.0
_WRITE_SECONDS = 1.0
_RETRY_SECONDS = 5.0
_PRUNE_SECONDS = 3600.0
# A guild that is busy is written once in this time: a minute is all that anybody is told.
_REWRITE_SECONDS = 30.0
# Read at a start, some half a second's work; and what other processes may not have written yet.
_SPANS = (DAY, DAY / 4, 3600.0, 600.0, 60.0)
_START_AT_MOST = 200_000
_STALE = 10.0
_JUST_NOW = (10.0,)
_JUST_NOW_AT_MOST = 50_000
_JUST_NOW_WITHIN = 1.5
_OVERLAP = 30.0
_CLOCKS_APART = 2.0


@dataclass(frozen=True, slots=True)
class LastEvent:
    """What is known of a guild's events on their way to production; ages in seconds."""

    ago: float | None
    """How long ago the last one went there, within a day; None when none is known."""
    looked_back: float
    """As far back as nothing was missed; 0 when nothing is known for certain."""

    @property
    def is_none(self) -> bool:
        """True when the last day is known, and had none."""
        return self.ago is None and self.looked_back >= DAY


class LastEvents:
    """Keeps the record, and answers from it. `now` is in seconds since the epoch."""

    def __init__(
        self,
        activity: Activity,
        record: LastEventRecord,
        stream: StreamGuilds | None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Without a `stream`, as for the command line, what was not written yet is not found."""
        self._activity = activity
        self._record = record
        self._stream = stream
        self._now = now
        self._last: dict[str, float] = {}
        """Of this process's guilds, and of those it read at a start."""
        self._written: dict[str, float] = {}
        self._unwritten: dict[str, float] = {}
        self._state: RecordState | None = None
        self._pruned = now()
        self._away = False

    async def of(self, guild_id: str) -> LastEvent:
        """What is known of the guild's last day. A server that is away makes it less, and raises nothing."""
        now = self._now()
        here = self._activity.last_production_event(guild_id) or self._last.get(guild_id)
        try:
            written, state = await self._record.last(guild_id)
        except DependencyUnavailable:
            written, state = None, None
        # Where nobody writes, events may still pass: what is new then is not known.
        since = now if state is None or state.until < now - _STALE else state.since
        just_now = None
        if self._stream is not None:
            found = await self._just_now(self._stream)
            just_now = found.last.get(guild_id)
            # Half of it is enough: what is written is written within a second.
            if found.since > now - _JUST_NOW[0] / 2:
                since = now
        latest = max(here or 0.0, written or 0.0, just_now or 0.0)
        ago = max(0.0, now - latest) if latest > now - DAY else None
        return LastEvent(ago, max(0.0, now - since))

    async def _just_now(self, stream: StreamGuilds) -> Found:
        """What another process may have published and not written yet."""
        try:
            async with asyncio.timeout(_JUST_NOW_WITHIN):
                return await stream.look(_JUST_NOW, at_most=_JUST_NOW_AT_MOST)
        except (DependencyUnavailable, TimeoutError):
            return Found(self._now())

    async def run(self) -> None:
        """Keep the record until cancelled."""
        await tasks.repeat(
            self._turn, failed=lambda: _log.exception("last_events_not_written"), pause=_RETRY_SECONDS
        )

    async def _turn(self) -> None:
        try:
            await self.write()
        except DependencyUnavailable as error:
            if not self._away:
                _log.warning("last_events_not_written", dependency=error.dependency, reason=error.reason)
            self._away = True
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            self._away = False
            await asyncio.sleep(_WRITE_SECONDS)

    async def write(self) -> None:
        """Write what is new; at first, and whenever the record was lost, what the stream tells too."""
        for guild_id, moment in self._activity.drain_fresh().items():
            self._last[guild_id] = moment
            if moment - self._written.get(guild_id, 0.0) >= _REWRITE_SECONDS:
                self._unwritten[guild_id] = moment
        present, known = await self._record.state(), self._state
        if present is None or (known is not None and present.until < known.until - _CLOCKS_APART):
            # Gone, or an old one came back.
            await self._begin_anew()
        elif known is None:
            await self._join(present)
        elif present.number != known.number:
            # Another process began anew, and what this one had written is gone.
            self._unwritten = dict(self._last)
        due, now = dict(self._unwritten), self._now()
        await self._record.write(due, now)
        self._written |= due
        self._unwritten.clear()
        self._state = await self._record.state()
        if now - self._pruned >= _PRUNE_SECONDS:
            self._pruned = now
            self._last = {guild: moment for guild, moment in self._last.items() if moment > now - DAY}
            self._written = {guild: self._written[guild] for guild in self._last if guild in self._written}
            await self._record.forget_before(now - DAY)

    async def _begin_anew(self) -> None:
        """The record then is as complete as the stream, which has the events of all processes."""
        found = await self._look(_SPANS)
        self._unwritten = dict(self._last)
        now = self._now()
        await self._record.begin(secrets.randbelow(1 << 40) + 1, found.since, now)
        _log.info("last_events_begun", minutes_back=round((now - found.since) / 60))

    async def _join(self, present: RecordState) -> None:
        """A process that starts: what nobody wrote before it did is in the stream."""
        gap = min(max(self._now() - present.until, 0.0) + _OVERLAP, DAY)
        found = await self._look(sorted({gap, 60.0, *(span for span in _SPANS if span < gap)}, reverse=True))
        self._unwritten |= found.last
        if found.since > present.until - _CLOCKS_APART:
            await self._record.incomplete_before(found.since)

    async def _look(self, spans: Sequence[float]) -> Found:
        if self._stream is None:
            return Found(self._now())
        found = await self._stream.look(spans, at_most=_START_AT_MOST)
        for guild_id, moment in found.last.items():
            self._last[guild_id] = max(moment, self._last.get(guild_id, 0.0))
        return found
