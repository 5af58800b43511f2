"""Who counts as a live gateway process, by the database's clock."""

from __future__ import annotations

import asyncpg
import pytest

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.postgres import create_pool
from sandbox_core.postgres.pool import Pool
from sandbox_core.postgres.processes import GatewayProcess, Processes, announce


async def seen(pool: Pool, process: GatewayProcess) -> None:
    async with pool.acquire() as connection:
        await announce(connection, process)


async def test_a_process_is_live_for_ten_seconds_after_its_last_sign(database_url: str) -> None:
    async with await create_pool(database_url) as pool:
        processes = Processes(pool)
        assert await processes.live() == []
        first, second = GatewayProcess.this(), GatewayProcess.this()
        for process in (first, second, first):
            await seen(pool, process)
        assert await processes.live() == [first, second]
        await pool.execute(
            "UPDATE gateway_processes SET seen_at = now() - interval '10.1 s' WHERE process_id = $1", first.id
        )
        assert await processes.live() == [second]
        await seen(pool, first)
        assert await processes.live() == [first, second]


async def test_who_leaves_takes_rows_of_the_long_gone_with_it(database_url: str) -> None:
    async with await create_pool(database_url) as pool:
        processes = Processes(pool)
        gone, leaving, staying = (GatewayProcess.this() for _ in range(3))
        for process in (gone, leaving, staying):
            await seen(pool, process)
        await pool.execute(
            "UPDATE gateway_processes SET seen_at = now() - interval '61 min' WHERE process_id = $1", gone.id
        )
        await processes.leave(leaving)
        left = await pool.fetch("SELECT process_id FROM gateway_processes")
        assert [row["process_id"] for row in left] == [staying.id]


async def test_a_missing_table_is_named(empty_database_url: str) -> None:
    async with await create_pool(empty_database_url) as pool:
        with pytest.raises(DependencyUnavailable, match="migrat"):
            await Processes(pool).live()
        with pytest.raises(asyncpg.UndefinedTableError):
            await seen(pool, GatewayProcess.this())
