"""The stream of recordings: on disk, on production's server, where no sandbox has a login.

A recording is one subject, and each of its messages a part of it: some events, compressed, and in the headers
where the sandbox's stream was read to and what the recording has in all. So the last message tells whoever
goes on where to begin. Each is stored only as the one behind the last that its writer knows: of two writers
one is refused, and a repetition too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RawStreamMsg, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.subjects import StreamNames

from .connection import NatsConnection
from .errors import DEPENDENCY, translating
from .stream_faults import MADE_BY, MARK
from .streams import StreamMaker
from .too_large import HEADER_ROOM

_CURSOR, _EVENTS, _BYTES = "Recording-Cursor", "Recording-Events", "Recording-Bytes"
_MISSED, _GAPS, _IDS = "Recording-Missed", "Recording-Gaps", "Recording-Ids"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_DUPLICATE_WINDOW = 120.0
_WRONG_LAST = {10071, 10164}
"""JetStream's JSStreamWrongLastSequenceErrF and its like."""
_FULL = 10077
"""JetStream's JSStreamStoreFailedF; its text says that the most bytes are reached."""


class AnotherWriter(Exception):
    """The recording goes on behind another message than the writer knows."""


class StreamFull(Exception):
    """The stream of all recordings has no room left."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a recording has come."""

    number: int = 0
    """Of its last message in the stream; 0 before the first."""
    birth: int = 0
    position: int = 0
    """Up to where the sandbox's stream was read."""
    events: int = 0
    bytes: int = 0
    missed: int = 0
    gaps: int = 0


def recordings_config(names: StreamNames, *, replicas: int, most_bytes: int) -> StreamConfig:
    """The configuration of the stream."""
    return StreamConfig(
        name=names.recordings,
        subjects=[names.recordings_subjects],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_bytes=most_bytes,
        # A recording that is there stays whole: a new one is refused instead.
        discard=DiscardPolicy.NEW,
        num_replicas=replicas,
        # Nothing here has a message id; this is the server's own value.
        duplicate_window=_DUPLICATE_WINDOW,
        metadata={MADE_BY: MARK},
    )


class RecordingStream:
    """Writes and reads recordings. Methods raise `DependencyUnavailable`."""

    def __init__(
        self,
        connection: NatsConnection,
        js: JetStreamContext,
        names: StreamNames,
        *,
        replicas: int,
        most_bytes: int,
    ) -> None:
        self._connection = connection
        self._js = js
        self._names = names
        self._config = recordings_config(names, replicas=replicas, most_bytes=most_bytes)
        self._maker = StreamMaker(js, lambda: connection.server)

    @property
    def room(self) -> int:
        """The most bytes of one message."""
        return self._connection.client.max_payload - HEADER_ROOM

    async def ensure(self) -> None:
        """Make the stream, or bring it to the settings. Raises `StreamUnusable`."""
        await self._maker.ensure(self._config)
        with translating():
            present = (await self._js.stream_info(self._names.recordings)).config
            # Only this stream has limits of the settings' own in bytes.
            if present.max_bytes != self._config.max_bytes or present.discard != DiscardPolicy.NEW:
                await self._js.update_stream(
                    present.evolve(max_bytes=self._config.max_bytes, discard=DiscardPolicy.NEW)
                )

    async def last(self, recording_id: UUID) -> Mark | None:
        """Return how far the recording has come; None before its first message."""
        with translating():
            try:
                found = await self._js.get_last_msg(self._names.recordings, self._subject(recording_id))
            except NotFoundError:
                return None
        return _mark(found)

    async def append(self, recording_id: UUID, mark: Mark, payload: bytes, names: Sequence[str] = ()) -> Mark:
        """Store a part; `mark` is what the recording then has, with the number of its last message until now.

        `names` are short ones of the part's events, for `names`.

        Raises `AnotherWriter` or `StreamFull`.
        """
        headers = {
            _EXPECTED: str(mark.number),
            _CURSOR: f"{mark.birth}:{mark.position}",
            _EVENTS: str(mark.events),
            _BYTES: str(mark.bytes),
            _MISSED: str(mark.missed),
            _GAPS: str(mark.gaps),
            **({_IDS: " ".join(names)} if names else {}),
        }
        stream = self._names.recordings
        with translating():
            try:
                stored = await self._js.publish(
                    self._subject(recording_id), payload, stream=stream, headers=headers
                )
            except NoStreamResponseError:
                raise DependencyUnavailable(DEPENDENCY, f"the stream {stream} is missing") from None
            except APIError as error:
                if error.err_code in _WRONG_LAST:
                    raise AnotherWriter from None
                if error.err_code == _FULL or "maximum bytes" in (error.description or ""):
                    raise StreamFull from None
                raise
        return Mark(stored.seq, mark.birth, mark.position, mark.events, mark.bytes, mark.missed, mark.gaps)

    async def parts(self, recording_id: UUID) -> AsyncIterator[bytes]:
        """Yield the parts of a recording in their order."""
        async for message in self._messages(recording_id):
            if message.data:
                yield message.data

    async def names(self, recording_id: UUID) -> set[str]:
        """Return the short names of all events of a recording."""
        found: set[str] = set()
        async for message in self._messages(recording_id):
            found.update((message.headers or {}).get(_IDS, "").split())
        return found

    async def _messages(self, recording_id: UUID) -> AsyncIterator[RawStreamMsg]:
        number, subject = 0, self._subject(recording_id)
        while True:
            with translating():
                try:
                    message = await self._js.get_msg(
                        self._names.recordings, seq=number + 1, subject=subject, next=True
                    )
                except NotFoundError:
                    return
            number = message.seq or number + 1
            yield message

    async def remove(self, recording_id: UUID) -> None:
        """Remove the events of a recording; a missing one is no error."""
        with translating():
            try:
                await self._js.purge_stream(self._names.recordings, subject=self._subject(recording_id))
            except NotFoundError:
                return

    async def ids(self) -> set[UUID]:
        """Return the ids of the recordings that have events; none while the stream is missing."""
        with translating():
            try:
                info = await self._js.stream_info(
                    self._names.recordings, subjects_filter=self._names.recordings_subjects
                )
            except NotFoundError:
                return set()
        found = set()
        for subject in info.state.subjects or {}:
            try:
                found.add(UUID(subject.rpartition(".")[2]))
            except ValueError:
                # Nobody of ours writes such.
                continue
        return found

    def _subject(self, recording_id: UUID) -> str:
        return self._names.recording_subject(recording_id)


def _mark(message: RawStreamMsg) -> Mark:
    headers = message.headers or {}
    birth, _, position = headers.get(_CURSOR, "0:0").partition(":")
    numbers = (int(headers.get(each, "0")) for each in (_EVENTS, _BYTES, _MISSED, _GAPS))
    return Mark(message.seq or 0, int(birth), int(position), *numbers)
