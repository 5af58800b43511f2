"""What is asked of recordings: who may, and what they have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog

from sandbox_core.errors import DoesNotFit, NotPermitted, SandboxNotFound
from sandbox_core.manager import SandboxManager, utc_now
from sandbox_core.models import Actor, Sandbox
from sandbox_core.nats.recordings import Mark, RecordingStream
from sandbox_core.postgres import Pool, connected, transaction
from sandbox_core.postgres import recordings as rows
from sandbox_core.postgres.recordings import Progress, Recording, RecordingStatus
from sandbox_core.validation import parse_name
from sandbox_core.workbench.seen import SeenEvent

from .lines import About, checked_about, checked_event, event_of
from .recorder import Places
from .writing import OWNERS_LIMIT, Writer, unpacked

_log = structlog.get_logger("sandbox.recordings")

MOST_PER_OWNER = 50
_OTHER_NAME = "Choose another name, or delete that one."
_LISTED = "sandboxctl recordings list shows them."
_DELETE_SOME = "Delete some, with sandboxctl recordings delete."
_EVENTS_AT_ONCE = 500


class Recordings:
    """Begins, ends, lists, reads, imports and deletes recordings.

    Methods raise `DependencyUnavailable`; those that name a recording `DoesNotFit`, and `NotPermitted` for
    another owner's.
    """

    def __init__(
        self,
        pool: Pool,
        manager: SandboxManager,
        stream: RecordingStream,
        places: Places,
        *,
        owners_bytes: int,
        kept_for: timedelta,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._pool = pool
        self._manager = manager
        self._stream = stream
        self._places = places
        self._owners_bytes = owners_bytes
        self._kept_for = kept_for
        self._clock = clock

    async def start(self, actor: Actor, reference: str, name: str) -> Recording:
        """Record every event of the sandbox from now on. Raises also as `SandboxManager.get`."""
        cleaned = parse_name(name)
        sandbox = await self._manager.get(reference)
        self._manager.check_may_manage(actor, sandbox, "record")
        self._manager.check_running(sandbox)
        await self._check_room(sandbox.owner)
        # Not the recorder: it would be too late to say that it can't be made.
        await self._stream.ensure()
        state = await (await self._places(sandbox.id, sandbox.generation)).state()
        recording = self._new(cleaned, sandbox.owner, RecordingStatus.RECORDING, sandbox)
        recording = replace(recording, source_birth=state.birth, source_position=state.last)
        await self._add(recording)
        return recording

    async def stop(self, actor: Actor, reference: str, name: str) -> Recording:
        """Record nothing that comes after this; what came before still is, see `get`."""
        recording = await self.get(actor, name, "stop")
        if reference not in {
            recording.sandbox_name,
            str(recording.sandbox_id),
            str(recording.sandbox_id)[:8],
        }:
            problem = f"it is not of {reference}, but of {recording.sandbox_name or 'no sandbox'}"
            raise DoesNotFit(f"The recording {name}", problem, _LISTED)
        if recording.status is not RecordingStatus.RECORDING or recording.sandbox_id is None:
            problem = "it has ended already" + (f": {recording.reason}" if recording.reason else "")
            raise DoesNotFit(f"The recording {name}", problem, _LISTED)
        try:
            sandbox = await self._manager.get(str(recording.sandbox_id))
        except SandboxNotFound:
            problem = "its sandbox has ended, and so it does, too"
            raise DoesNotFit(f"The recording {name}", problem, _LISTED) from None
        place = await self._places(sandbox.id, sandbox.generation)
        state = await place.state()
        # By convention the stream has more than events.
        last = state.last if place.own else await place.last()
        async with connected(self._pool) as connection:
            await rows.stop(connection, recording.id, state.birth, last)
        return recording

    async def list(self, owner: str | None) -> list[Recording]:
        """Return all recordings, or one owner's, the newest first."""
        async with connected(self._pool) as connection:
            return await rows.select(connection, owner)

    async def get(self, actor: Actor, name: str, verb: str = "read") -> Recording:
        """Return the recording of this name."""
        async with connected(self._pool) as connection:
            found = await rows.by_name(connection, name)
        if found is None:
            raise DoesNotFit(f"The recording {name}", "there is none of this name", _LISTED)
        if not actor.is_bot_owner and actor.id != found.owner:
            raise NotPermitted(f"{verb} the recording {name}", "its owner and the bot's owner")
        return found

    async def lines(self, recording: Recording) -> AsyncIterator[bytes]:
        """Yield the lines of its events, in their order."""
        async for part in self._stream.parts(recording.id):
            for line in await asyncio.to_thread(unpacked, part):
                yield line

    async def exported(self, recording: Recording) -> AsyncIterator[bytes]:
        """Yield all lines of its file."""
        about = About(
            recording.name, recording.began_at, recording.ended_at, recording.events, recording.scrubbed
        )
        yield about.encode()
        async for line in self.lines(recording):
            yield line

    async def events(self, recording: Recording) -> AsyncIterator[SeenEvent]:
        """Yield its events; their numbers begin at 1."""
        number = 0
        async for line in self.lines(recording):
            number += 1
            yield event_of(line, number, recording.began_at)

    async def import_(self, owner: str, name: str, lines: Iterable[bytes]) -> Recording:
        """Make a recording of a file's lines. What is wrong with one of them leaves nothing behind."""
        cleaned = parse_name(name)
        coming = iter(lines)
        about = checked_about(next(coming, b""))
        await self._check_room(owner)
        await self._stream.ensure()
        recording = self._new(cleaned, owner, RecordingStatus.IMPORTING, None)
        recording = replace(recording, began_at=about.began, scrubbed=about.scrubbed)
        await self._add(recording)
        writer = Writer(self._stream, recording.id, recording.began_at, Mark())
        try:
            for events in _some(coming, about.began):
                # Others of this owner grow meanwhile.
                writer.limit = self._owners_bytes - await self._others(recording)
                await writer.write(events, 0, events[-1].id)
                if writer.full:
                    raise DoesNotFit("The file", f"it is too large: {writer.full}", "Delete some first.")
                await self._note(recording, writer.mark)
            mark = writer.mark
            await self._end_import(recording, mark)
        except BaseException:
            await asyncio.shield(self._remove(recording.id))
            raise
        return replace(recording, events=mark.events, bytes=mark.bytes, status=RecordingStatus.ENDED)

    async def delete(self, recording: Recording) -> None:
        """Remove it for good; while it is recorded, that ends."""
        await self._remove(recording.id)

    async def tidy(self) -> None:
        """Remove what is too old, and what was deleted while its events could not be."""
        async with connected(self._pool) as connection:
            await rows.retire(connection, self._kept_for)
            _, deleting = await rows.ids(connection)
        for each in await self._stream.ids() & deleting:
            await self._stream.remove(each)
            _log.info("recording_removed", recording_id=str(each))
        async with connected(self._pool) as connection:
            await rows.forget(connection)

    async def unknown(self) -> set[UUID]:
        """Return the recordings with events that this database knows nothing of."""
        # First what there is: a recording has its row before its first event.
        present = await self._stream.ids()
        async with connected(self._pool) as connection:
            kept, deleting = await rows.ids(connection)
        return present - kept - deleting

    async def remove_unknown(self, recording_id: UUID) -> bool:
        """Remove the events of one of these. False when it is none now."""
        if recording_id not in await self.unknown():
            return False
        await self._stream.remove(recording_id)
        return True

    async def _remove(self, recording_id: UUID) -> None:
        async with connected(self._pool) as connection:
            await rows.delete(connection, recording_id)
        # What fails from here on, or is written meanwhile, `tidy` does again.
        await self._stream.remove(recording_id)

    async def _others(self, recording: Recording) -> int:
        """Return how many bytes the owner's other recordings have."""
        async with connected(self._pool) as connection:
            _, used = await rows.used(connection, recording.owner)
            present = await rows.by_name(connection, recording.name)
        return used - (present.bytes if present is not None and present.id == recording.id else 0)

    async def _note(self, recording: Recording, mark: Mark) -> None:
        progress = Progress(mark.events, mark.bytes, mark.missed)
        async with connected(self._pool) as connection:
            if not await rows.record(connection, recording.id, progress):
                raise _gone(recording)

    async def _end_import(self, recording: Recording, mark: Mark) -> None:
        progress = Progress(mark.events, mark.bytes, mark.missed)
        async with transaction(self._pool) as connection:
            # Of two at once the second sees the first.
            await rows.lock_owner(connection, recording.owner)
            if not await rows.record(connection, recording.id, progress, ended=""):
                raise _gone(recording)
            _, used = await rows.used(connection, recording.owner)
            if used > self._owners_bytes:
                raise DoesNotFit("The file", f"it is too large: {OWNERS_LIMIT}", "Delete some first.")

    async def _add(self, recording: Recording) -> None:
        async with transaction(self._pool) as connection:
            # Of two at once the second sees the first.
            await rows.lock_owner(connection, recording.owner)
            number, _ = await rows.used(connection, recording.owner)
            _check_number(number)
            if not await rows.add(connection, recording):
                raise DoesNotFit(f"The recording {recording.name}", "there is one of this name", _OTHER_NAME)

    async def _check_room(self, owner: str) -> None:
        async with connected(self._pool) as connection:
            number, used = await rows.used(connection, owner)
        _check_number(number)
        if used >= self._owners_bytes:
            problem = f"its owner's recordings have {used:,} bytes, and {self._owners_bytes:,} is the most"
            raise DoesNotFit("Another recording", problem, _DELETE_SOME)

    def _new(self, name: str, owner: str, status: RecordingStatus, sandbox: Sandbox | None) -> Recording:
        return Recording(
            id=uuid4(),
            name=name,
            owner=owner,
            sandbox_id=None if sandbox is None else sandbox.id,
            sandbox_name="" if sandbox is None else sandbox.name,
            status=status,
            began_at=self._clock(),
            ended_at=None,
            reason="",
            source_birth=0,
            source_position=0,
            until_birth=None,
            until_position=None,
            events=0,
            bytes=0,
            missed=0,
            gaps=0,
            scrubbed=False,
            claimed=False,
        )


def _gone(recording: Recording) -> DoesNotFit:
    return DoesNotFit(f"The recording {recording.name}", "it was deleted meanwhile", "Import it again.")


def _check_number(number: int) -> None:
    if number >= MOST_PER_OWNER:
        raise DoesNotFit("Another recording", f"its owner has {number} already", _DELETE_SOME)


def _some(lines: Iterator[bytes], began: datetime) -> Iterator[list[SeenEvent]]:
    events: list[SeenEvent] = []
    size = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        event = checked_event(line, number, began)
        events.append(event)
        size += len(event.frame)
        if len(events) == _EVENTS_AT_ONCE or size > 1024 * 1024:
            yield events
            events, size = [], 0
    if events:
        yield events
