"""Reading the events of production and of all sandboxes, each from the server that has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable

from .errors import translating
from .message_ids import Content, MessageIds

_log = structlog.get_logger("sandbox.nats")


class Reads(Protocol):
    """Reads one stream or several, as `MessageIds` does."""

    async def read(self, begin: datetime, found: Callable[[str], None]) -> None: ...

    async def read_whole(self, begin: datetime, found: Callable[[Content], None]) -> None: ...


class StreamReads:
    """Reads one stream's messages with this subject."""

    def __init__(self, message_ids: MessageIds, stream: str, subject: str) -> None:
        self._message_ids = message_ids
        self._stream = stream
        self._subject = subject

    async def read(self, begin: datetime, found: Callable[[str], None]) -> None:
        """See `MessageIds.read`."""
        await self._message_ids.read(self._stream, self._subject, begin, found)

    async def read_whole(self, begin: datetime, found: Callable[[Content], None]) -> None:
        """See `MessageIds.read_whole`."""
        await self._message_ids.read_whole(self._stream, self._subject, begin, found)


class EveryStream:
    """Reads all of them. Those `apart` are on a server that only sandboxes need.

    Production never waits for that server: while it does not answer, its streams count as empty.
    """

    def __init__(self, needed: Sequence[Reads], apart: Sequence[Reads] = ()) -> None:
        self._needed = needed
        self._apart = apart

    async def read(self, begin: datetime, found: Callable[[str], None]) -> None:
        """See `MessageIds.read`."""
        await self._ask(lambda reads: reads.read(begin, found))

    async def read_whole(self, begin: datetime, found: Callable[[Content], None]) -> None:
        """See `MessageIds.read_whole`."""
        await self._ask(lambda reads: reads.read_whole(begin, found))

    async def _ask(self, question: Callable[[Reads], Awaitable[None]]) -> None:
        for each in self._needed:
            await question(each)
        for each in self._apart:
            try:
                with translating():
                    await question(each)
            except DependencyUnavailable as error:
                # Better an event of a sandbox twice than production's held up.
                _log.warning("sandbox_streams_not_read", dependency="NATS", reason=error.reason)
