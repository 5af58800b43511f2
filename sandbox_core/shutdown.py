"""One limit for everything that is done at an end, shared by its steps in turn.

Limits for each step alone add up to more than anybody waits: whoever stops a process kills it after a while.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable

import structlog

from . import tasks

_log = structlog.get_logger("sandbox.shutdown")

_LEAST = 0.05
"""Seconds a step has even when the time is over: what waits for nobody gets done all the same."""
_LAST_MOMENT = 0.5

Work = Callable[[], Awaitable[object]]


class ShutdownBudget:
    """Gives each step of an end what is left of `within` seconds; `monotonic` is in seconds."""

    def __init__(self, within: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._within = within
        self._monotonic = monotonic
        self._until = math.inf
        self._unfinished = tasks.Abandoned()

    def begin(self) -> None:
        """From now on the time runs, as from the first step at the latest; again is harmless."""
        if self._until == math.inf:
            self._until = self._monotonic() + self._within

    @property
    def left(self) -> float:
        """Seconds: all of them before the beginning, and 0 when the time is over."""
        if self._until == math.inf:
            return self._within
        return max(0.0, self._until - self._monotonic())

    async def step(self, name: str, work: Work, *, at_most: float = math.inf) -> bool:
        """Do the work: True when it is done, False when it was not in `at_most` seconds and in what is left.

        It is cancelled then, and nobody waits for its end: to undo something on a server that hangs takes as
        long as the server does. Raises what the work raised in time.
        """
        self.begin()
        seconds = max(_LEAST, min(at_most, self.left))
        try:
            await tasks.within(seconds, _done(work), name=f"shutdown {name}", abandoned=self._unfinished)
        except tasks.Overdue:
            return False
        return True

    async def finish(self, name: str, work: Work, *, at_most: float = math.inf) -> bool:
        """As `step`, for what only has to be named in the log when it was not done."""
        done = await self.step(name, work, at_most=at_most)
        if not done:
            _log.warning("left_unfinished", step=name)
        return done

    async def over(self) -> None:
        """Wait a moment for what was cut off: without its connections it ends soon."""
        await self._unfinished.wait(_LAST_MOMENT)


async def _done(work: Work) -> None:
    await work()
