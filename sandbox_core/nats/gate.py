"""Whether publications can be sent now: the connection stands, and the streams are there and usable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from sandbox_core import tasks

from .connection import NatsConnection
from .recovery import EnsuresStreams, usable

_log = structlog.get_logger("sandbox.nats")


class Gate:
    """Shut by whoever sees a reason to; opened by its own recovery, which looks at everything again.

    `prepare` is awaited before it opens.
    """

    def __init__(
        self, connection: NatsConnection, streams: EnsuresStreams, prepare: Callable[[], Awaitable[None]]
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._prepare = prepare
        self._open = asyncio.Event()
        self.is_open = False
        """As `_open` says, which is a call."""
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False

    def shut(self) -> None:
        """Nothing is to be sent until the next recovery has succeeded."""
        self.is_open = False
        self._open.clear()

    async def opened(self) -> None:
        """Return when it is open."""
        await self._open.wait()

    def recover(self) -> None:
        """Begin to look whether it can be opened, unless that is being done."""
        if not self._closed and (self._recovery is None or self._recovery.done()):
            self._recovery = asyncio.get_running_loop().create_task(self._recover())
            self._recovery.add_done_callback(_finished)

    async def close(self) -> None:
        """Shut it for good."""
        self._closed = True
        self.shut()
        if self._recovery is not None:
            # nats-py loses a cancellation now and then, and the recovery would go on for ever.
            await tasks.end(self._recovery)

    async def _recover(self) -> None:
        await self._connection.stands()
        await usable(self._streams)
        await self._prepare()
        if self._connection.connected:
            self.is_open = True
            self._open.set()
        else:
            # It went away while the streams were checked; the reconnect starts the next recovery.
            _log.debug("disconnected_during_recovery")


def _finished(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("publisher_task_failed", exc_info=error)
