"""A real process is killed with SIGKILL; then one pass leaves nothing of what it was at."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox_core.models import Actor, GuildAccess, Route, Sandbox, SandboxStatus
from sandbox_core.postgres import connected
from sandbox_core.subjects import route_key
from tests.forked import ForkedProcess, start_forked
from tests.streams import streams_at

from .conftest import GUILDS, Yard, make_manager
from .mortal import SESSIONS

Start = Callable[..., Awaitable[ForkedProcess]]

CREATE_POINTS = [
    "create:inserted",
    "create:PostgreSQL",
    "create:Redis",
    "create:NATS",
    "create:running",
    "create:routes",
]
DESTROY_POINTS = [
    "destroy:destroying",
    "destroy:routes",
    "destroy:NATS",
    "destroy:Redis",
    "destroy:PostgreSQL",
    "destroy:destroyed",
]
EXPIRE_POINTS = ["destroy:expired", *DESTROY_POINTS]
TRANSIENT = {
    SandboxStatus.PENDING,
    SandboxStatus.CREATING,
    SandboxStatus.EXPIRED,
    SandboxStatus.DESTROYING,
}


@pytest.fixture
def task(database_url: str, redis_url: str, nats_url: str) -> dict[str, Any]:
    return {
        "database_url": database_url,
        "redis_url": redis_url,
        "nats_url": nats_url,
        "guilds": GUILDS[:2],
    }


@pytest.fixture
def start(task: dict[str, Any]) -> Start:
    async def start(**more: Any) -> ForkedProcess:
        return await start_forked(
            json.dumps(task | more), environment=os.environ, module="tests.cleanup.mortal"
        )

    return start


async def run_to_death(yard: Yard, process: ForkedProcess) -> None:
    async with asyncio.timeout(60):
        printed = await process.stdout.read()
        assert await process.wait() == -signal.SIGKILL, printed.decode()
    await sessions_ended(yard)


async def sessions_ended(yard: Yard) -> None:
    """Until PostgreSQL has noticed the death: before that, the dead one's claims hold."""
    async with asyncio.timeout(60), connected(yard.pool) as connection:
        left = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = $1"
        )
        while await connection.fetchval(left, SESSIONS):
            await asyncio.sleep(0.01)


async def one_pass(yard: Yard) -> None:
    """As the periodic pass does it, once creations count as abandoned."""
    yard.clock.now = datetime.now(UTC) + timedelta(minutes=3)
    report, orphans = await yard.cleanup.run()
    assert (report.failed, report.left_to_others) == ((), 0)
    assert (dict(orphans.failed), orphans.spared) == ({}, ())


async def everything(yard: Yard) -> dict[str, set[str]]:
    """What stands in the stores, by the short id of whose it is."""
    async with connected(yard.pool) as connection:
        mapped = await connection.fetch("SELECT sandbox_id FROM sandbox_guild_mapping")
        bookkeeping = await connection.fetch("SELECT sandbox_id FROM sandbox_cleanup")
    return {
        "schemas": await yard.schemas.list_ids(),
        "keys": {each[:8] for each in await yard.keys.list_ids()},
        "events": {each[:8] for each in await yard.nats_part.list_ids()},
        "mappings": {row["sandbox_id"].hex[:8] for row in mapped},
        "bookkeeping": {row["sandbox_id"].hex[:8] for row in bookkeeping},
        "transient": {each.short_id for each in await yard.manager.list() if each.status in TRANSIENT},
    }


async def assert_nothing_but(yard: Yard, running: list[Sandbox]) -> None:
    whole = {each.short_id for each in running}
    assert await everything(yard) == {
        "schemas": whole,
        "keys": set(),
        "events": whole,
        "mappings": {each.short_id for each in running if each.guild_ids},
        "bookkeeping": set(),
        "transient": set(),
    }
    found = await yard.cleanup.find_orphaned_resources()
    assert (found.orphans, found.degraded) == ((), ())


@pytest.mark.parametrize("point", CREATE_POINTS)
async def test_killed_while_it_creates(yard: Yard, start: Start, point: str) -> None:
    await run_to_death(yard, await start(do="create", die_at=point))
    (row,) = await yard.manager.list()
    finished = point in {"create:running", "create:routes"}
    assert row.status is (SandboxStatus.RUNNING if finished else SandboxStatus.CREATING)

    await one_pass(yard)

    if finished:
        assert row.guild_ids == tuple(GUILDS[:2])
        await assert_nothing_but(yard, [row])
    else:
        await assert_nothing_but(yard, [])
        assert (await yard.row(row)).status is SandboxStatus.DESTROYED
        assert (await yard.audit(row))[-2].details["reason"] == "creation abandoned"


@pytest.mark.parametrize("point", ["create:inserted", "create:NATS"])
async def test_a_killed_creation_is_taken_back_at_once_and_frees_its_name(
    yard: Yard, start: Start, alice: Actor, point: str
) -> None:
    await run_to_death(yard, await start(do="create", die_at=point))
    (row,) = await yard.manager.list()
    yard.clock.now = datetime.now(UTC)
    (gone,) = (await yard.cleanup.cleanup_expired()).destroyed
    assert (gone.id, (await yard.audit(row))[-2].details["reason"]) == (row.id, "creation abandoned")
    assert (await yard.manager.create(alice, name=row.name)).sandbox.name == row.name


async def test_a_creation_whose_process_lives_is_left_alone_however_slow_it_is(
    yard: Yard, alice: Actor
) -> None:
    async def meanwhile(point: str) -> None:
        if point == "create:NATS":
            yard.clock.forward(minutes=3)
            report = await yard.cleanup.cleanup_expired()
            assert (report.destroyed, report.left_to_others) == ((), 1)

    manager = make_manager(yard, faults=meanwhile)
    assert (await manager.create(alice, name="slow")).sandbox.status is SandboxStatus.RUNNING


@pytest.mark.parametrize(
    ("do", "point"),
    [("destroy", point) for point in DESTROY_POINTS] + [("expire", point) for point in EXPIRE_POINTS],
)
async def test_killed_while_it_removes(
    yard: Yard, start: Start, alice: Actor, guilds: list[GuildAccess], do: str, point: str
) -> None:
    yard.clock.now = datetime.now(UTC) - timedelta(minutes=90)
    ttl = "1h" if do == "expire" else "100h"
    sandbox = await yard.sandbox(alice, "mine", ttl=ttl, guilds=guilds[:2])
    for guild_id in GUILDS[:2]:
        # As other processes have it cached.
        await yard.redis.set(route_key(guild_id), str(sandbox.id), ex=600)
    yard.routes.current = dict.fromkeys(GUILDS, Route(str(sandbox.id), sandbox.expires_at.timestamp()))

    await run_to_death(yard, await start(do=do, die_at=point))
    await one_pass(yard)

    await assert_nothing_but(yard, [])
    assert (await yard.row(sandbox)).status is SandboxStatus.DESTROYED
    cached = [await yard.redis.get(route_key(guild_id)) for guild_id in GUILDS[:2]]
    if point in {"destroy:expired", "destroy:destroying"}:
        # It died before it told anybody, so the pass has done it.
        assert [yard.routes.current[guild_id] for guild_id in GUILDS[:2]] == [None, None]
    else:
        assert cached == ["__NULL__", "__NULL__"]
    log = [entry.event_type.value for entry in await yard.audit(sandbox)]
    assert log.count("sandbox_destroyed") == log.count("sandbox_destroying") == 1


@pytest.mark.parametrize("_round", range(5))
async def test_killed_at_any_moment_under_load(yard: Yard, start: Start, _round: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    moment = random.Random(seed)
    process = await start(do="load", guilds=GUILDS)
    try:
        async with asyncio.timeout(60):
            for _ in range(moment.randrange(1, 12)):
                assert await process.stdout.readline()
        await asyncio.sleep(moment.uniform(0, 0.15))
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    await sessions_ended(yard)

    await one_pass(yard)

    left = [each for each in await yard.manager.list() if each.status is SandboxStatus.RUNNING]
    found = await everything(yard)
    whole = {each.short_id for each in left}
    assert found["schemas"] == found["mappings"] == whole
    assert found["keys"] <= whole
    assert found["events"] == whole
    assert found["transient"] == found["bookkeeping"] == set()
    search = await yard.cleanup.find_orphaned_resources()
    assert (search.orphans, search.degraded) == ((), ())
    assert set(await streams_at(yard.js).present()) == {str(each.id) for each in left}
