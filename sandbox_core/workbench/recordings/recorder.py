"""Records: a process of the bot does it, whichever takes a recording first, and another if that one dies.

Nothing is acknowledged in between. What was stored tells where to go on, see `nats.recordings`, so after any
failure the writing begins anew from there: no event is lost while the sandbox's stream still has it, and none
is stored twice, also when two processes take themselves for the one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable, SandboxError
from sandbox_core.nats.recordings import AnotherWriter, Mark, RecordingStream
from sandbox_core.nats.stream_place import StreamPlace
from sandbox_core.postgres import Pool, connected
from sandbox_core.postgres import recordings as rows
from sandbox_core.postgres.recordings import Active, Progress, RecordingStatus
from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.watching import Missed, follow

from .writing import Writer, name_of

_log = structlog.get_logger("sandbox.recordings")

EVERY = 1.0
"""Seconds between two looks at which recordings there are."""
_WRITE_AFTER = 0.25
"""Seconds for which events are gathered."""
_MOST_EVENTS, _MOST_BYTES = 500, 1024 * 1024
"""Of one part; the bytes are those of frames."""
_MOST_WAITING = 4 * 1024 * 1024
_AGAIN_AFTER = 1.0
_LAST_WITHIN = 5.0
"""Seconds for which the last events of a recording that ends are awaited."""

OF_SANDBOX = "its sandbox has ended"

Places = Callable[[UUID, int], Awaitable[StreamPlace]]
"""Finds the stream of a sandbox, by its id and its credentials. Raises `DependencyUnavailable`."""


class _SourceAway(Exception):
    """The sandbox's events can't be read now."""


class _Recording:
    """One recording that this process writes."""

    def __init__(self, active: Active, pool: Pool, stream: RecordingStream, places: Places) -> None:
        self.active = active
        self.limit = 0
        self.progress = Progress()
        self.told = Progress()
        """What PostgreSQL knows."""
        self._pool = pool
        self._stream = stream
        self._places = places
        self._waiting: deque[tuple[int, SeenEvent | Missed]] = deque()
        """What was read and is not stored, each with the birth of its stream."""
        self._bytes = 0
        self._come = asyncio.Event()
        self._read_on = asyncio.Event()
        self._position = (0, 0)
        """Up to where the sandbox's stream was read."""
        self._known: set[str] | None = None
        """What is stored, if the sandbox's stream was made anew: the bot may store events in it once more."""
        self._until: float | None = None
        self.ending: str | None = None
        """Why it is to end, "" when somebody has asked for that."""
        self.ended: str | None = None
        """The same, when it has."""
        self.task = asyncio.create_task(self._run(), name="recording")

    async def _run(self) -> None:
        trouble = ""
        while self.ended is None:
            try:
                await self._record()
                continue
            except AnotherWriter:
                # Our own, whose answer was lost, or another process.
                self._waiting.clear()
                continue
            except _SourceAway as error:
                reason = str(error)
                if self._is_overdue():
                    self.ended = self.ending
                    return
            except SandboxError as error:
                reason = error.reason if isinstance(error, DependencyUnavailable) else type(error).__name__
            if reason != trouble:
                _log.warning("recording_waits", recording=self.active.recording.name, reason=reason)
            trouble = reason
            await asyncio.sleep(_AGAIN_AFTER)

    def _is_overdue(self) -> bool:
        """Whether the last events were awaited for long enough."""
        if self.ending is None:
            return False
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + _LAST_WITHIN
        return now > self._until

    async def _record(self) -> None:
        """Write behind what is stored, until it ends or something fails."""
        recording = self.active.recording
        await self._stream.ensure()
        mark = await self._stream.last(recording.id)
        if mark is None:
            mark = Mark(birth=recording.source_birth, position=recording.source_position)
        self._note(mark)
        if mark.gaps:
            self._known = await self._stream.names(recording.id)
        writer = Writer(self._stream, recording.id, recording.began_at, mark)
        # What was read before is still here also when the sandbox's stream is not.
        while self._waiting and _is_stored(self._waiting[0], mark):
            self._waiting.popleft()
        self._bytes = sum(len(each.frame) for _, each in self._waiting if isinstance(each, SeenEvent))
        if not self._waiting:
            self._position = (mark.birth, mark.position)
        reading = asyncio.create_task(self._read(), name="recording-reads")
        try:
            await self._write(writer, reading)
        finally:
            await tasks.end(reading)

    async def _read(self) -> None:
        recording = self.active.recording
        birth, position = self._position
        try:
            place = await self._places(recording.sandbox_id or UUID(int=0), self.active.credentials)
            async for found in follow(place, position, birth=birth):
                if isinstance(found, Missed):
                    birth = found.birth
                    self._position = (birth, found.position)
                else:
                    self._position = (birth, found.id)
                    self._bytes += len(found.frame)
                self._waiting.append((birth, found))
                self._come.set()
                if self._bytes > _MOST_WAITING:
                    # The sandbox's stream keeps what comes meanwhile.
                    self._read_on.clear()
                    await self._read_on.wait()
        except DependencyUnavailable as error:
            raise _SourceAway(error.reason) from error

    async def _write(self, writer: Writer, reading: asyncio.Task[None]) -> None:
        while True:
            self._come.clear()
            if not self._waiting and not reading.done():
                try:
                    async with asyncio.timeout(_WRITE_AFTER):
                        await self._come.wait()
                except TimeoutError:
                    pass
                else:
                    # More may come at the same time.
                    await asyncio.sleep(_WRITE_AFTER)
            writer.limit = self.limit
            while self._waiting and not writer.full:
                await self._write_next(writer)
                self._note(writer.mark)
            if writer.full:
                self.ended = writer.full
                return
            if self.ending is not None and (self._all_read() or self._is_overdue()):
                self.ended = self.ending
                return
            if reading.done() and not self._waiting:
                reading.result()
                return

    async def _write_next(self, writer: Writer) -> None:
        birth, found = self._waiting[0]
        if isinstance(found, Missed):
            if found.events is None and self._known is None:
                self._known = await self._stream.names(self.active.recording.id)
            await writer.missed(found.events, found.birth, found.position)
            self._waiting.popleft()
            return
        events = await self._wanted(birth, self._some(birth))
        if not events:
            # Nobody wants what came after the end.
            self._waiting.clear()
            return
        new = events
        if self._known is not None:
            new = [each for each in events if name_of(each) not in self._known]
        if new:
            await writer.write(new, birth, events[-1].id)
        else:
            await writer.missed(0, birth, events[-1].id)
        if self._known is not None:
            self._known.update(map(name_of, new))
        for each in events:
            self._waiting.popleft()
            self._bytes -= len(each.frame)
        self._read_on.set()

    def _some(self, birth: int) -> list[SeenEvent]:
        """Return the next events of one stream, as many as one part may have."""
        events: list[SeenEvent] = []
        size = 0
        for its_birth, each in self._waiting:
            if not isinstance(each, SeenEvent) or its_birth != birth:
                break
            size += len(each.frame)
            if events and (size > _MOST_BYTES or len(events) == _MOST_EVENTS):
                break
            events.append(each)
        return events

    async def _wanted(self, birth: int, events: list[SeenEvent]) -> list[SeenEvent]:
        """Leave out what came after the end. Raises `DependencyUnavailable`.

        `turn` may not know yet that the recording was stopped. What was read before this looks, and is not
        behind the end that it finds, came before the stop.
        """
        async with connected(self._pool) as connection:
            stopped = await rows.end_of(connection, self.active.recording.id)
        if stopped is not None:
            self.active = replace(self.active, recording=stopped)
        return [each for each in events if not self._is_behind_end(birth, each.id)]

    def _is_behind_end(self, birth: int, position: int) -> bool:
        recording = self.active.recording
        # A stream that was made later has only what came later.
        return recording.status is RecordingStatus.STOPPING and (birth, position) > (
            recording.until_birth or 0,
            recording.until_position or 0,
        )

    def _all_read(self) -> bool:
        recording = self.active.recording
        if recording.status is not RecordingStatus.STOPPING:
            return False
        return self._position >= (recording.until_birth or 0, recording.until_position or 0)

    def _note(self, mark: Mark) -> None:
        self.progress = Progress(mark.events, mark.bytes, mark.missed, mark.gaps)


def _is_stored(waiting: tuple[int, SeenEvent | Missed], mark: Mark) -> bool:
    birth, found = waiting
    position = found.position if isinstance(found, Missed) else found.id
    return birth == mark.birth and position <= mark.position


class Recorder:
    """Records what this process has taken; `turn` is called again and again."""

    def __init__(
        self, pool: Pool, stream: RecordingStream, places: Places, *, process: str, owners_bytes: int
    ) -> None:
        """`process` names this process among those of the bot."""
        self._pool = pool
        self._stream = stream
        self._places = places
        self._process = process
        self._owners_bytes = owners_bytes
        self._own: dict[UUID, _Recording] = {}

    async def turn(self) -> float:
        """Begin, go on and end. Return the seconds until the next turn. Raises `DependencyUnavailable`."""
        async with connected(self._pool) as connection:
            active = await rows.claim(connection, self._process)
        found = {each.recording.id: each for each in active}
        # Deleted, or another process has it.
        for gone in self._own.keys() - found.keys():
            await tasks.end(self._own.pop(gone).task)
        for recording_id, each in found.items():
            own = self._own.get(recording_id)
            if own is None or (own.task.done() and own.ended is None):
                own = self._own[recording_id] = _Recording(each, self._pool, self._stream, self._places)
                _log.info("recording_taken", recording=each.recording.name)
            own.active = each
            own.limit = self._owners_bytes - each.others_bytes
            if not each.runs:
                own.ending = OF_SANDBOX
            elif each.recording.status is RecordingStatus.STOPPING:
                own.ending = ""
        for recording_id, own in list(self._own.items()):
            await self._tell(recording_id, own)
        return EVERY if not any(each.ending is not None for each in self._own.values()) else EVERY / 4

    async def _tell(self, recording_id: UUID, own: _Recording) -> None:
        progress, ended = own.progress, own.ended
        if ended is None and progress == own.told:
            return
        async with connected(self._pool) as connection:
            await rows.record(connection, recording_id, progress, ended=ended)
        own.told = progress
        if ended is not None:
            del self._own[recording_id]
            await tasks.end(own.task)
            _log.info(
                "recording_ended", recording=own.active.recording.name, reason=ended, events=progress.events
            )

    async def close(self) -> None:
        """Stop; another process goes on."""
        own, self._own = self._own, {}
        await tasks.end(*(each.task for each in own.values()))
        # Without PostgreSQL another process waits until it hears of this one no more.
        with suppress(DependencyUnavailable):
            if own:
                async with connected(self._pool) as connection:
                    await rows.leave(connection, self._process)
