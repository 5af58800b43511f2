"""One pass over what is due: slow removals keep nobody else from beginning, and many begin one by one."""

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

Outcome = Sandbox | Failure | DependencyUnavailable | None
"""The destroyed sandbox, why it stands still, PostgreSQL being away, or None: left to somebody else."""

LOOK_AGAIN = 1.0
"""Seconds between two looks for what has come due, while other removals run."""
SLOW_AFTER = 3.0
"""Seconds after which a removal no longer keeps the next one waiting."""
_LEFT_FOR = 3.0
"""Seconds that one which somebody else was removing is left to them."""
SPREAD_OVER = 7.0
"""Seconds over which the beginnings of many are spread: what expires is to be gone within ten."""
_APART = 0.12
"""Seconds between two beginnings where there is time: events keep the pace they have without removals."""


class Places:
    """Bounds the removals of one process, whichever pass began them.

    At most `at_once` are quick at the same time. One that takes longer than `slow_after` seconds is slow: it
    goes on beside the quick ones, and leaves its place to the next, up to `at_most` altogether.
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
        """How many may begin now."""
        return max(0, min(self._at_once - len(self._quick), self._at_most - len(self._all)))

    async def room(self) -> None:
        """Return when one may begin."""
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


class Round:
    """Removes what is due until nothing is, as many sandboxes at the same time as there are places."""

    def __init__(
        self,
        *,
        due: Callable[[], Awaitable[list[Sandbox]]],
        clean: Callable[[Sandbox], Coroutine[Any, Any, Outcome]],
        clock: Callable[[], datetime],
        places: Places,
    ) -> None:
        """`clean` takes a place for as long as it works."""
        self.outcomes: dict[UUID, Outcome] = {}
        self.away: DependencyUnavailable | None = None
        """Why PostgreSQL could not be asked, if that happened at any time."""
        self._due = due
        self._clean = clean
        self._clock = clock
        self._places = places
        self._running: dict[asyncio.Task[Outcome], UUID] = {}
        self._left_until: dict[UUID, float] = {}
        self._waiting: deque[Sandbox] = deque()
        """What was due when it was looked for last, and has not begun."""
        self._looked_at = 0.0
        self._next_at = 0.0
        self._spread_until = 0.0

    async def run(self) -> None:
        """Return when nothing runs and nothing more is due, or PostgreSQL is away."""
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

    async def _some_done(self) -> set[asyncio.Task[Outcome]]:
        """Wait until one may begin, or for those that end before."""
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
            if self._has_turn(sandbox.id):
                # Another pass may have all the places.
                await self._places.room()
                task = asyncio.create_task(self._clean(sandbox), name=f"cleanup-{sandbox.short_id}")
                self._running[task] = sandbox.id
                break
        if self._waiting:
            self._next_at = now + min(_APART, max(0.0, self._spread_until - now) / len(self._waiting))

    def _has_turn(self, sandbox_id: UUID) -> bool:
        if sandbox_id in self._running.values():
            return False
        if sandbox_id not in self.outcomes:
            return True
        outcome = self.outcomes[sandbox_id]
        if isinstance(outcome, Failure):
            return self._clock() >= outcome.next_attempt_at
        # Only while others run: a pass must not wait for somebody else's work.
        return outcome is None and bool(self._running) and self._left_until[sandbox_id] <= _now()

    def _note(self, sandbox_id: UUID, outcome: Outcome) -> None:
        self.outcomes[sandbox_id] = outcome
        if outcome is None:
            self._left_until[sandbox_id] = _now() + _LEFT_FOR
        elif isinstance(outcome, DependencyUnavailable):
            self.away = outcome


def _now() -> float:
    return asyncio.get_running_loop().time()
