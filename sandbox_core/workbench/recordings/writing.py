"""Writes the parts of a recording."""

from __future__ import annotations

import asyncio
import gzip
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

import structlog

from sandbox_core.nats.recordings import Mark, RecordingStream, StreamFull
from sandbox_core.workbench.seen import SeenEvent

from .lines import line_of

_log = structlog.get_logger("sandbox.recordings")

_LET_OTHERS = 0.00001
"""Seconds between two lines for which the event loop runs."""
_LEVEL = 6

OWNERS_LIMIT = "its owner's recordings have reached their limit"
STREAM_FULL = "all recordings together have reached their limit"


def packed(lines: Sequence[bytes]) -> bytes:
    """Return the part of a recording that has these lines."""
    return gzip.compress(b"".join(line + b"\n" for line in lines), _LEVEL)


def unpacked(part: bytes) -> list[bytes]:
    """Return the lines of a part, without their ends."""
    return gzip.decompress(part).split(b"\n")[:-1]


class Writer:
    """Writes parts of one recording. `limit` is how many bytes it may have."""

    def __init__(self, stream: RecordingStream, recording_id: UUID, began: datetime, mark: Mark) -> None:
        self._stream = stream
        self._id = recording_id
        self._began = began
        self.mark = mark
        self.limit = 0
        self.full = ""
        """Why no more can be stored."""

    async def write(self, events: Sequence[SeenEvent], birth: int, position: int) -> None:
        """Store the events as one part, or several where one is too large for the server.

        Raises `AnotherWriter` or `DependencyUnavailable`.
        """
        # Other threads go on meanwhile: production's events do not wait for this one.
        part = await asyncio.to_thread(self._part, events)
        if len(part) > self._stream.room:
            if len(events) == 1:
                _log.warning("event_not_recorded", reason="too large", bytes=len(events[0].frame))
                await self.missed(1, birth, position)
                return
            middle = len(events) // 2
            await self.write(events[:middle], birth, events[middle - 1].id)
            await self.write(events[middle:], birth, position)
            return
        have = self.mark
        if have.bytes + len(part) > self.limit:
            self.full = OWNERS_LIMIT
        if self.full:
            return
        await self._append(
            replace(
                have,
                birth=birth,
                position=position,
                events=have.events + len(events),
                bytes=have.bytes + len(part),
            ),
            part,
            [name_of(event) for event in events if event.message_id],
        )

    async def missed(self, events: int | None, birth: int, position: int) -> None:
        """Store that so many are missing at this place. Raises as `write`."""
        have = self.mark
        more = {"gaps": have.gaps + 1} if events is None else {"missed": have.missed + events}
        await self._append(replace(have, birth=birth, position=position, **more), b"")

    async def _append(self, mark: Mark, part: bytes, names: Sequence[str] = ()) -> None:
        try:
            self.mark = await self._stream.append(self._id, mark, part, names)
        except StreamFull:
            self.full = STREAM_FULL

    def _part(self, events: Sequence[SeenEvent]) -> bytes:
        lines = []
        for event in events:
            lines.append(line_of(event, self._began))
            # The event loop of production gets the interpreter's lock now, and not only after 5 ms.
            time.sleep(_LET_OTHERS)
        return packed(lines)


def name_of(event: SeenEvent) -> str:
    """A short name of the event by its message id."""
    digest = blake2b(event.message_id.encode(), digest_size=9).digest()
    return urlsafe_b64encode(digest).decode()
