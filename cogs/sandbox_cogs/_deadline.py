"""A limit on how long a piece of work may keep its caller waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
_log = structlog.get_logger("sandbox.discord")

# The event loop itself holds tasks only weakly.
_abandoned: set[asyncio.Task[Any]] = set()


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, or `TimeoutError` after `seconds`, whatever `work` does about it.

    `asyncio.timeout` waits until cancelled work has ended; undoing something on a server that hangs can
    take as long as the server does. Here the work is cancelled too, but nobody waits for its end.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        _abandon(task)
        raise
    if task.done():
        return task.result()
    task.cancel()
    _abandon(task)
    raise TimeoutError


def _abandon(task: asyncio.Task[Any]) -> None:
    _abandoned.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("abandoned_work_failed", error=type(error).__name__, detail=str(error))
