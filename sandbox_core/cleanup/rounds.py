"""One pass over what is due: a slow removal keeps nobody else from beginning."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any
from uuid import UUID

from sandbox_core.cancellation import end
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Sandbox
from sandbox_core.postgres.cleanup import Failure

Outcome = Sandbox | Failure | DependencyUnavailable | None
"""The destroyed sandbox, why it stands still, PostgreSQL being away, or None: left to somebody else."""

LOOK_AGAIN = 1.0
"""Seconds between two looks for what has come due, while other removals run."""
_LEFT_FOR = 3.0
"""Seconds that one which somebody else was removing is left to them."""


class Round:
    """Removes what is due until nothing is, at most `at_once` sandboxes at the same time."""

    def __init__(
        self,
        *,
        due: Callable[[], Awaitable[list[Sandbox]]],
        clean: Callable[[Sandbox], Coroutine[Any, Any, Outcome]],
        clock: Callable[[], datetime],
        at_once: int,
    ) -> None:
        self.outcomes: dict[UUID, Outcome] = {}
        self.away: DependencyUnavailable | None = None
        """Why PostgreSQL could not be asked, if that happened at any time."""
        self._due = due
        self._clean = clean
        self._clock = clock
        self._at_once = at_once
        self._running: dict[asyncio.Task[Outcome], UUID] = {}
        self._left_until: dict[UUID, float] = {}

    async def run(self) -> None:
        """Return when nothing runs and nothing more is due, or PostgreSQL is away."""
        try:
            await self._begin_due()
            while self._running:
                done, _ = await asyncio.wait(
                    self._running, timeout=LOOK_AGAIN, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    self._note(self._running.pop(task), task.result())
                if self._running or self.away is None:
                    await self._begin_due()
        finally:
            await end(*self._running)

    async def _begin_due(self) -> None:
        free = self._at_once - len(self._running)
        if not free:
            return
        try:
            found = [each for each in await self._due() if self._has_turn(each.id)]
        except DependencyUnavailable as error:
            self.away = error
            return
        for sandbox in found[:free]:
            task = asyncio.create_task(self._clean(sandbox), name=f"cleanup-{sandbox.short_id}")
            self._running[task] = sandbox.id

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
