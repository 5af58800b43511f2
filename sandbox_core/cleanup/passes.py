"""One pass over the due sandboxes: slow removals do not block others, and many removals start one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Sandbox
from sandbox_core.postgres.cleanup import Failure
from sandbox_core.tasks import end

Removal = Sandbox | Failure | DependencyUnavailable | None
"""The result of removing one sandbox: the destroyed sandbox, its failure, the error when PostgreSQL is away,
or None when another process removes it."""

LOOK_AGAIN = 1.0
"""Seconds between two queries for due sandboxes while removals run."""
SLOW_AFTER = 3.0
"""Seconds after which a removal is slow and no longer blocks the next one."""
_LEFT_FOR = 3.0
"""Seconds before a sandbox that another process was removing is tried here again."""
SPREAD_OVER = 7.0
"""Seconds over which many removals start: an expired sandbox must be removed within ten."""
_APART = 0.12
"""Seconds between two starts if there is time, so that removals do not slow down events."""


class Places:
    """Limits the removals of one process, over all its passes.

    At most `at_once` quick removals run at the same time. A removal that takes longer than `slow_after`
    seconds is slow: it continues and frees its place for the next, up to `at_most` removals in total.
    """

    def __init__(self, at_once: int, at_most: int, *, slow_after: float = SLOW_AFTER) -> None:
        self._at_once = at_once
        self._at_most = at_most
        self._slow_after = slow_after
        self._quick: set[object] = set()
        self._all: set[object] = set()
        self._changed = asyncio.Event()

    @property
    def free(self) -> int:
        """The number of removals that may start now."""
        return max(0, min(self._at_once - len(self._quick), self._at_most - len(self._all)))

    async def room(self) -> None:
        """Wait until a removal may start."""
        while not self.free:
            self._changed.clear()
            await self._changed.wait()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it until the end of the block."""
        await self.room()
        holder = object()
        self._quick.add(holder)
        self._all.add(holder)
        timer = asyncio.get_running_loop().call_later(self._slow_after, self._slow, holder)
        try:
            yield
        finally:
            timer.cancel()
            self._all.discard(holder)
            self._slow(holder)

    def _slow(self, holder: object) -> None:
        self._quick.discard(holder)
        self._changed.set()


class Pass:
    """Removes due sandboxes until none is left, as many at the same time as there are places."""

    def __init__(
        self,
        *,
        due: Callable[[], Awaitable[list[Sandbox]]],
        clean: Callable[[Sandbox], Coroutine[Any, Any, Removal]],
        clock: Callable[[], datetime],
        places: Places,
    ) -> None:
        """`clean` holds a place while it works."""
        self.removals: dict[UUID, Removal] = {}
        self.away: DependencyUnavailable | None = None
        """The error when PostgreSQL was away, if that happened."""
        self._due = due
        self._clean = clean
        self._clock = clock
        self._places = places
        self._running: dict[asyncio.Task[Removal], UUID] = {}
        self._left_until: dict[UUID, float] = {}
        self._waiting: deque[Sandbox] = deque()
        """The due sandboxes of the last query whose removal has not started."""
        self._looked_at = 0.0
        self._next_at = 0.0
        self._spread_until = 0.0

    async def run(self) -> None:
        """Remove sandboxes until none is due and none is being removed, or PostgreSQL is away."""
        try:
            await self._begin_next()
            while self._running or self._waiting:
                for task in await self._some_done():
                    self._note(self._running.pop(task), task.result())
                if self.away is not None and not self._running:
                    return
                await self._begin_next()
        finally:
            await end(*self._running)

    async def _some_done(self) -> set[asyncio.Task[Removal]]:
        """Wait until the next removal may start. Return the removals that ended before."""
        within = LOOK_AGAIN
        if self._waiting and self._places.free:
            within = min(within, max(0.0, self._next_at - _now()))
        if not self._running:
            await asyncio.sleep(within)
            return set()
        done, _ = await asyncio.wait(self._running, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        return done

    async def _begin_next(self) -> None:
        now = _now()
        if self._waiting and now < self._next_at:
            return
        if self._running and not self._places.free:
            return
        if not self._waiting:
            self._spread_until = now + SPREAD_OVER
        if not self._waiting or now >= self._looked_at + LOOK_AGAIN:
            self._waiting.clear()
            try:
                self._waiting.extend(await self._due())
            except DependencyUnavailable as error:
                self.away = error
                return
            self._looked_at = now
        while self._waiting:
            sandbox = self._waiting.popleft()
            if self._may_begin(sandbox.id):
                # Another pass may hold all places.
                await self._places.room()
                task = asyncio.create_task(self._clean(sandbox), name=f"cleanup-{sandbox.short_id}")
                self._running[task] = sandbox.id
                break
        if self._waiting:
            self._next_at = now + min(_APART, max(0.0, self._spread_until - now) / len(self._waiting))

    def _may_begin(self, sandbox_id: UUID) -> bool:
        if sandbox_id in self._running.values():
            return False
        if sandbox_id not in self.removals:
            return True
        removal = self.removals[sandbox_id]
        if isinstance(removal, Failure):
            return self._clock() >= removal.next_attempt_at
        # Only while other removals run: a pass must not wait for another process.
        return removal is None and bool(self._running) and self._left_until[sandbox_id] <= _now()

    def _note(self, sandbox_id: UUID, removal: Removal) -> None:
        self.removals[sandbox_id] = removal
        if removal is None:
            self._left_until[sandbox_id] = _now() + _LEFT_FOR
        elif isinstance(removal, DependencyUnavailable):
            self.away = removal


def _now() -> float:
    return asyncio.get_running_loop().time()
