"""Ends tasks, limits work in time, and repeats work whatever it raises.

Some drivers lose a cancellation. On Python 3.11 `asyncio.wait_for` swallows one that arrives just as the
awaited work is done (https://github.com/python/cpython/issues/86296), and asyncpg, redis-py and nats-py send
their requests through it. The task still counts the request in `cancelling()`, so a loop over requests can
notice; whoever cancels a task and waits for its end has to repeat it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
_log = structlog.get_logger("sandbox.tasks")

_AGAIN_AFTER = 1.0
"""Seconds until a cancellation is repeated: long enough for what a task does in its `finally`."""


class Overdue(TimeoutError):
    """The time for some work is over; when a part of it took too long, it raises `TimeoutError` by itself."""


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


class Abandoned:
    """Holds tasks that nobody waits for until they end, and logs what they raise.

    The event loop itself holds tasks only weakly.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def cancel(self, *tasks: asyncio.Task[Any]) -> None:
        """Cancel those that still run. Nobody waits: to undo a request takes as long as its server does."""
        for task in tasks:
            if not task.done() and task not in self._tasks:
                task.cancel()
                self._tasks.add(task)
                task.add_done_callback(self._ended)

    async def wait(self, at_most: float) -> None:
        """Wait until all have ended, but not longer than `at_most` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=at_most)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("abandoned_work_failed", work=task.get_name(), exc_info=error)


_abandoned = Abandoned()


async def within(
    seconds: float, work: Coroutine[Any, Any, T], *, name: str = "work", abandoned: Abandoned = _abandoned
) -> T:
    """Return the result of `work`, or raise `Overdue` after `seconds`, whatever `work` does about it.

    `asyncio.timeout` waits until cancelled work has ended. Here nobody does: it is left to `abandoned`.
    """
    task = asyncio.create_task(work, name=name)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        abandoned.cancel(task)
    if not task.done():
        raise Overdue
    return task.result()


async def ended_within(seconds: float, work: Coroutine[Any, Any, T], *, name: str = "work") -> T:
    """Return the result of `work`, or raise `Overdue` after `seconds`. In any case, `work` has ended by then.

    `asyncio.timeout` cancels once, and a driver may lose that.
    """
    task = asyncio.create_task(work, name=name)
    try:
        await asyncio.wait({task}, timeout=seconds)
        in_time = task.done()
    finally:
        await end(task)
    if task.cancelled() and not in_time:
        raise Overdue
    return task.result()


def _always() -> bool:
    return True


async def repeat(
    turn: Callable[[], Awaitable[object]],
    *,
    failed: Callable[[], object],
    pause: float,
    while_: Callable[[], object] = _always,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Take turns while `while_` is true, by default until cancelled.

    Whatever a turn raises, `failed` is called while it is being handled, and the next turn comes `pause`
    seconds later.
    """
    while while_():
        try:
            await turn()
        except Exception:
            # Whatever it was: a loop that has ended is noticed only by what it no longer does.
            failed()
            await sleep(pause)


class OnDemand:
    """One task at most, which runs `work` while there is some: `work` returns when nothing is left."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._work = work
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """There is something to do: start the task unless it runs."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name=self._name)

    async def close(self) -> None:
        """End the task; what is left is not done."""
        if self._task is not None:
            await end(self._task)
