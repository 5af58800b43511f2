"""Removes what a process keeps of a sandbox that has ended: it may have written it just before it knew.

The bot removes the same when it takes the sandbox apart. What a process that dies has written in between is
found by the search for orphans.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.namespaces.client_traces import ClientTraces

from .tenants import Tenant

_log = structlog.get_logger("sandbox.client_gateway")

_AFTER = (1.0, 10.0)
"""In seconds: its connections have ended by then, and calls that were under way."""


class Sweeper:
    """Sweeps after each end."""

    def __init__(self, traces: ClientTraces, lives: Callable[[UUID], bool]) -> None:
        """`lives` says whether a sandbox runs."""
        self._traces = traces
        self._lives = lives
        self._tasks: set[asyncio.Task[None]] = set()

    def tenant_changed(self, sandbox_id: UUID, tenant: Tenant | None) -> None:
        """See `following.Changed`."""
        if tenant is None:
            task = asyncio.create_task(self._sweep(sandbox_id), name="client-sweep")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Sweep no more."""
        await tasks.end(*self._tasks)

    async def _sweep(self, sandbox_id: UUID) -> None:
        for seconds in _AFTER:
            await asyncio.sleep(seconds)
            # While PostgreSQL is away an extension may not be known here.
            if self._lives(sandbox_id):
                return
            try:
                await self._traces.drop(sandbox_id)
            except DependencyUnavailable as error:
                _log.info("client_traces_left", sandbox_id=str(sandbox_id), reason=error.reason)
