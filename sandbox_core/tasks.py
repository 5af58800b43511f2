"""Ends tasks, limits the time of work, and repeats work also after errors.

Some drivers lose a cancellation. On Python 3.11 `asyncio.wait_for` swallows one that arrives when the awaited
work has just ended (https://github.com/python/cpython/issues/86296), and asyncpg, redis-py and nats-py use it
for their requests. The task still counts it in `cancelling()`, so a loop over requests can notice it. Code
that cancels a task and waits for its end must repeat the cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog

from .errors import DependencyUnavailable

T = TypeVar("T")
U = TypeVar("U")
_log = structlog.get_logger("sandbox.tasks")

_AGAIN_AFTER = 1.0
"""Seconds until a cancellation is repeated: long enough for a task's `finally`."""


class after_commit:  # noqa: N801 (used like a function)
    """Run what follows a committed change: whatever it raises is logged, and the change stays done.

    A cancellation passes.
    """

    def __init__(self, step: str) -> None:
        self._step = step

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        # Any error: the caller must not be told that what is done has failed.
        if not isinstance(error, Exception):
            return False
        _log.error("failed_after_commit", step=self._step, exc_info=error)
        return True


class Overdue(TimeoutError):
    """The time limit of some work has passed. A `TimeoutError` from inside the work is not this error."""


class Cancellations:
    """Notices cancellations of the current task since the creation of this object."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        # A task that was cancelled before may now undo its work.
        self._before = 0 if self._task is None else self._task.cancelling()

    def check(self) -> None:
        """Raise `CancelledError` if there was a cancellation. Call it after each request of a loop."""
        if self._task is not None and self._task.cancelling() > self._before:
            raise asyncio.CancelledError


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks repeatedly until all have ended. Their errors are not raised here.

    A cancellation of the caller takes effect afterwards.
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
            # Read it, so that asyncio does not report an error that was never retrieved.
            task.exception()
    if interruption is not None:
        raise interruption


class Abandoned:
    """Keeps tasks without a waiting caller until they end, and logs their errors.

    The event loop itself has only weak references to tasks.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def cancel(self, *tasks: asyncio.Task[Any]) -> None:
        """Cancel the running tasks without waiting: their end may take as long as a server hangs."""
        for task in tasks:
            if not task.done() and task not in self._tasks:
                task.cancel()
                self._tasks.add(task)
                task.add_done_callback(self._ended)

    async def wait(self, at_most: float) -> None:
        """Wait until all have ended, at most `at_most` seconds."""
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
    """Return the result of `work`, or raise `Overdue` after `seconds`, even when `work` does not end then.

    `asyncio.timeout` waits until the cancelled work has ended. This function does not wait: it leaves the
    work to `abandoned`.
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
    """Return the result of `work`, or cancel it after `seconds`, wait for its end and raise `Overdue`.

    `asyncio.timeout` cancels only once, and a driver may lose that cancellation.
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


async def few_at_once(ask: Callable[[U], Awaitable[T]], about: Iterable[U], *, at_once: int) -> list[T]:
    """Return what `ask` returns of each, in their order, with at most `at_once` at a time.

    After one has failed, or a cancellation, nobody waits for the others.
    """
    few = asyncio.Semaphore(at_once)

    async def one(each: U) -> T:
        async with few:
            return await ask(each)

    asked = [asyncio.ensure_future(one(each)) for each in about]
    try:
        return await asyncio.gather(*asked)
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


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
    """Call `turn` while `while_` is true, by default until cancelled.

    After any error of a turn it calls `failed` in the exception's handler; the next turn comes `pause`
    seconds later.
    """
    while while_():
        try:
            await turn()
        except Exception:
            # Any error: the end of a loop would be noticed only by its missing work.
            failed()
            await sleep(pause)


async def until_answered(
    ask: Callable[[], Awaitable[T]],
    *,
    waits: Callable[[DependencyUnavailable], object],
    pause: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Return what `ask` returns, called again `pause` seconds after each `DependencyUnavailable`.

    `waits` is told the first of these errors.
    """
    told = False
    while True:
        try:
            return await ask()
        except DependencyUnavailable as error:
            if not told:
                waits(error)
            told = True
        await sleep(pause)


class OnDemand:
    """At most one task, which runs `work`; `work` returns when there is nothing to do."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._work = work
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the task unless it runs."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name=self._name)

    async def close(self) -> None:
        """End the task; the remaining work is not done."""
        if self._task is not None:
            await end(self._task)
