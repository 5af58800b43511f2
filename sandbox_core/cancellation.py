"""Cancellations that a driver loses, and how they take effect all the same.

On Python 3.11 `asyncio.wait_for` swallows a cancellation that arrives just as the awaited work is done
(https://github.com/python/cpython/issues/86296), and redis-py and nats-py send their requests through it. The
task still counts the request in `cancelling()`, so a loop over requests can notice; whoever cancels a task
and waits for its end has to repeat it.
"""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_AFTER = 1.0
"""Seconds until a cancellation is repeated: long enough for what a task does in its `finally`."""


class Cancellations:
    """Notices cancellations that the current task was sent since this was made."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        # A task that was cancelled before may be undoing its work.
        self._before = 0 if self._task is None else self._task.cancelling()

    def check(self) -> None:
        """Raise `CancelledError` if there was one; to be called after each request of a loop."""
        if self._task is not None and self._task.cancelling() > self._before:
            raise asyncio.CancelledError


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks until all of them have ended; what they raised is the caller's to ask for.

    A cancellation of the caller takes effect after that.
    """
    interruption: asyncio.CancelledError | None = None
    while waiting := {task for task in tasks if not task.done()}:
        for task in waiting:
            task.cancel()
        try:
            await asyncio.wait(waiting, timeout=_AGAIN_AFTER)
        except asyncio.CancelledError as error:
            interruption = error
    for task in tasks:
        if not task.cancelled():
            # Asked for here, so that asyncio does not report it as never retrieved.
            task.exception()
    if interruption is not None:
        raise interruption
