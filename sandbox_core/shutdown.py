"""One time limit for all steps of a shutdown together.

Separate limits for each step would add up to too much: a supervisor kills a process that does not stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable

import structlog

from . import tasks

_log = structlog.get_logger("sandbox.shutdown")

_LEAST = 0.05
"""Seconds of a step after the limit: a step that does not have to wait is still done."""
_LAST_MOMENT = 0.5

Work = Callable[[], Awaitable[object]]


class ShutdownBudget:
    """Gives each step of a shutdown the rest of `within` seconds; `monotonic` is in seconds."""

    def __init__(self, within: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._within = within
        self._monotonic = monotonic
        self._until = math.inf
        self._unfinished = tasks.Abandoned()

    def begin(self) -> None:
        """Start the time, if it has not started; the first step starts it, too."""
        if self._until == math.inf:
            self._until = self._monotonic() + self._within

    @property
    def left(self) -> float:
        """Return the remaining seconds: all before the start, and 0 after the limit."""
        if self._until == math.inf:
            return self._within
        return max(0.0, self._until - self._monotonic())

    async def step(self, name: str, work: Work, *, at_most: float = math.inf) -> bool:
        """Do the work. Return whether it was done within `at_most` seconds and the remaining time.

        Late work is cancelled without waiting for its end: to undo something on a hanging server may take as
        long as the server hangs. Raises what the work raised in time.
        """
        self.begin()
        seconds = max(_LEAST, min(at_most, self.left))
        try:
            await tasks.within(seconds, _done(work), name=f"shutdown {name}", abandoned=self._unfinished)
        except tasks.Overdue:
            return False
        return True

    async def finish(self, name: str, work: Work, *, at_most: float = math.inf) -> bool:
        """Do the same as `step`, and log a step that was not done, or has failed."""
        try:
            done = await self.step(name, work, at_most=at_most)
        except Exception:
            # Any error: the other steps follow, and what the process was asked to do is done.
            _log.exception("shutdown_step_failed", step=name)
            return False
        if not done:
            _log.warning("shutdown_step_unfinished", step=name)
        return done

    async def over(self) -> None:
        """Wait a moment for cancelled work: without its connections it ends soon."""
        await self._unfinished.wait(_LAST_MOMENT)


async def _done(work: Work) -> None:
    await work()
