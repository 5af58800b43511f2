"""Claims on sandboxes: of several processes that could make or remove one, a single one does.

A claim is a PostgreSQL advisory lock of a session: when its process dies, the server gives it back at once
and another process takes over. A claim that is lost with its connection does no harm, because every step
of a removal may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import structlog

from sandbox_core.errors import DependencyUnavailable

from .errors import translating
from .kept_connection import KeptConnection
from .pool import Pool
from .sessions import this_session

_log = structlog.get_logger("sandbox.postgres")

_KEY = "hashtextextended('sandbox teardown ' || $1::text, 0)"


class Claims:
    """Hands out claims over one connection of the pool, which it keeps only while a claim is held."""

    def __init__(self, pool: Pool) -> None:
        self._held: set[UUID] = set()
        self._kept = KeptConnection(pool)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def hold(self, sandbox_id: UUID) -> AsyncIterator[bool]:
        """True inside when the claim is ours; False when somebody else has it. Never waits for a claim.

        Raises `DependencyUnavailable` when PostgreSQL is away.
        """
        if not await self._take(sandbox_id):
            yield False
            return
        try:
            yield True
        finally:
            await self._give_back(sandbox_id)

    async def session(self) -> str | None:
        """The session that holds the claims, for others to see whether it is over; None behind a pooler.

        To be asked while a claim is held. Raises `DependencyUnavailable` when PostgreSQL is away.
        """
        async with self._turn:
            with translating():
                return await this_session(await self._kept.get())

    async def _take(self, sandbox_id: UUID) -> bool:
        async with self._turn:
            # The server would grant the same session the same lock again.
            if sandbox_id in self._held:
                return False
            try:
                with translating():
                    taken = await (await self._kept.get()).fetchval(
                        f"SELECT pg_try_advisory_lock({_KEY})",
                        str(sandbox_id),
                    )
                if taken:
                    self._held.add(sandbox_id)
            finally:
                await self._leave_if_idle()
            return bool(taken)

    async def _give_back(self, sandbox_id: UUID) -> None:
        # Before anything is awaited: a cancellation must not leave the sandbox claimed here for ever.
        self._held.discard(sandbox_id)
        async with self._turn:
            try:
                if (connection := self._kept.standing) is not None:
                    with translating():
                        await connection.execute(
                            f"SELECT pg_advisory_unlock({_KEY})",
                            str(sandbox_id),
                        )
            except Exception as error:
                # Any error: what was done under the claim is done. The server gives the lock back when it
                # notices the end of the session.
                reason = error.reason if isinstance(error, DependencyUnavailable) else type(error).__name__
                _log.info("claim_lost", sandbox_id=str(sandbox_id), reason=reason)
            finally:
                await self._leave_if_idle()

    async def _leave_if_idle(self) -> None:
        if not self._held:
            await self._kept.give_back()
