"""Checks the processes that publish an application's events."""

from __future__ import annotations

from collections.abc import Callable

from sandbox_core.postgres import connected
from sandbox_core.postgres.pool import Pool
from sandbox_core.sharding.registered import MEND, describe, registered


async def check_publishers(pool: Pool, failed: Callable[[str, str], None]) -> None:
    """Report to `failed` each process that stands by for another without a plan, and what to do."""
    async with connected(pool) as connection:
        # Before the migrations no process can have registered.
        if await connection.fetchval("SELECT to_regclass('gateway_publishers')") is None:
            return
    for one in (await registered(pool)).standing_by:
        failed(describe(one), MEND)
