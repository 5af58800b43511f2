"""A connection's heartbeat, and the judgement whether the other side still answers.

By Discord's developer documentation ("Gateway", sending heartbeats) the first beat comes after the interval
times a random fraction, and a connection whose beat is not acknowledged before the next one is due is dead.
So one that falls silent is noticed within two intervals. discord.py judges by the last message received
instead, and would never notice a connection that still brings events but takes nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable


class Heartbeat:
    """Beats until stopped. discord.py finds it as the socket's `_keep_alive`, and reads `latency`.

    `beat` sends one heartbeat; `silent` is awaited once, when the other side does not answer any more.
    `interval` is in seconds.
    """

    def __init__(
        self,
        interval: float,
        beat: Callable[[], Awaitable[None]],
        silent: Callable[[], Awaitable[None]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self.interval = interval
        self.latency = float("inf")
        """Seconds from the last beat to its acknowledgement."""
        self._beat = beat
        self._silent = silent
        self._sleep = sleep
        self._monotonic = monotonic
        self._fraction = fraction
        self._sent_at = 0.0
        self._unanswered = False
        self._unread = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="gateway-heartbeat")

    def stop(self) -> None:
        """Beat no more; harmless when it has ended."""
        # `silent` closes the socket, which stops the heartbeat whose task it runs in.
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def tick(self) -> None:
        """Something was received: nothing to us, but discord.py reports it."""

    def ack(self) -> None:
        """A beat was acknowledged."""
        self._unanswered = False
        self.latency = self._monotonic() - self._sent_at

    def not_reading(self) -> None:
        """From now on nobody reads the socket: beats go on, but what does not come says nothing."""
        self._unread += 1

    def reading(self) -> None:
        """The socket is read again; acknowledgements may stand behind what was not read meanwhile."""
        self._unread -= 1
        self._unanswered = False

    async def now(self) -> None:
        """Send a beat out of turn: Discord asked for it."""
        self._sent_at = self._monotonic()
        await self._beat()

    async def _run(self) -> None:
        await self._sleep(self.interval * self._fraction())
        while not self._unanswered or self._unread:
            self._unanswered = True
            await self.now()
            await self._sleep(self.interval)
        await self._silent()
