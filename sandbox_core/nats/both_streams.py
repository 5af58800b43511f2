"""Reading both streams, each from the server that has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol

import structlog

from sandbox_core.errors import DependencyUnavailable

from .errors import translating
from .message_ids import Content

_log = structlog.get_logger("sandbox.nats")


class Reads(Protocol):
    """Reads a stream; see `MessageIds`."""

    async def read(
        self, stream: str, subject: str, begin: datetime, found: Callable[[str], None]
    ) -> None: ...

    async def read_whole(
        self, stream: str, subject: str, begin: datetime, found: Callable[[Content], None]
    ) -> None: ...


class BothStreams:
    """Reads as `MessageIds` does. `apart`: the sandboxes' stream has a server of its own.

    Production then never waits for that server: while it does not answer, its stream counts as empty.
    """

    def __init__(self, production: Reads, sandboxes: Reads, sandbox_stream: str, *, apart: bool) -> None:
        self._production = production
        self._sandboxes = sandboxes
        self._sandbox_stream = sandbox_stream
        self._apart = apart

    async def read(self, stream: str, subject: str, begin: datetime, found: Callable[[str], None]) -> None:
        """See `MessageIds.read`."""
        await self._ask(stream, lambda reads: reads.read(stream, subject, begin, found))

    async def read_whole(
        self, stream: str, subject: str, begin: datetime, found: Callable[[Content], None]
    ) -> None:
        """See `MessageIds.read_whole`."""
        await self._ask(stream, lambda reads: reads.read_whole(stream, subject, begin, found))

    async def _ask(self, stream: str, question: Callable[[Reads], Awaitable[None]]) -> None:
        if stream != self._sandbox_stream:
            await question(self._production)
            return
        if not self._apart:
            await question(self._sandboxes)
            return
        try:
            with translating():
                await question(self._sandboxes)
        except DependencyUnavailable as error:
            # Better an event of a sandbox twice than production's held up.
            _log.warning("sandbox_stream_not_read", dependency="NATS", reason=error.reason)
