"""What others on the same servers may write: notifications, times, announcements. None of it is believed."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.event_router.activity import Activity
from sandbox_core.event_router.last_events import LastEvents
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import DatedRoute, ResumePoint, Route
from sandbox_core.moments import MARGIN
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.route_announcements import RouteAnnouncements
from sandbox_core.postgres.processes import GatewayProcess, Processes, announce
from sandbox_core.postgres.switches import ANSWERS, REQUESTS, SwitchRequests
from sandbox_core.redis.last_events import LastEventRecord
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.sharding import other_leases
from sandbox_core.sharding.identify_rows import IdentifyRows
from sandbox_core.sharding.lease_rows import ShardRows
from sandbox_core.sharding.resume_point_keys import GatewaySessions
from sandbox_core.sharding.resume_point_rows import ResumePointRows
from sandbox_core.sharding.resume_points import ResumePoints
from sandbox_core.subjects import (
    DEFAULT_NAMES,
    LAST_EVENTS_KEY,
    ROUTE_NULL,
    gateway_session_key,
    route_key,
    route_moment_key,
)

from .conftest import GUILD_A, GUILD_B, until
from .route_world import FAR, World, started, table_route, world
from .test_stale_cache import in_redis, postgres_gone, until_in_redis

__all__ = ["world"]

IN_2255 = 9_000_000_000.0
_DEEP = "[" * 3000
BAD_CHANGES = [
    *("", "null", "[]", "{", "{}", "\ud7ff", "1e999", _DEEP, '{"guild_id": ' + _DEEP + "}"),
    *('{"guild_id": null}', '{"guild_id": 5}', '{"guild_id": "\\u0000"}', '{"guild_id": "x"}'),
    *('{"guild_id": ["100000000000000001"]}', '{"guild_id": "0100000000000000001"}', '{"guild_id": 1e400}'),
]
BAD_QUESTIONS = [
    *("", "null", "[]", "{}", "[1]", '{"request": "x", "guilds": []}', '{"guilds": ["\\u0000"]}'),
    json.dumps({"request": str(uuid4()), "guilds": ["\0"]}),
    json.dumps({"request": str(uuid4()), "guilds": "100000000000000001"}),
    json.dumps({"request": str(uuid4()), "guilds": {"100000000000000001": 1}}),
    json.dumps({"request": str(uuid4()), "guilds": [100000000000000001]}),
    json.dumps({"request": str(uuid4()), "guilds": [None]}),
    json.dumps({"request": 10**400, "guilds": []}),
]


async def notify(world: World, channel: str, payload: str) -> None:
    await world.pool.execute("SELECT pg_notify(sandbox_channel($1), $2)", channel, payload)


async def test_notifications_that_are_none_of_ours_change_nothing(world: World) -> None:
    await world.sandbox(GUILD_A)
    await started(world)
    with capture_logs() as logs:
        for payload in BAD_CHANGES:
            await notify(world, "sandbox_routes", payload)
        for payload in BAD_QUESTIONS:
            await notify(world, REQUESTS, payload)
        # One with more than we know of is ours.
        await notify(world, "sandbox_routes", json.dumps({"guild_id": GUILD_B, "more": {"a": 1}}))
        second = await world.sandbox(GUILD_B)
        await until(lambda: table_route(world, GUILD_B) == Route(second, FAR))
        assert world.provider.current_table is not None
    lines = [line for line in logs if line["event"] != "routes_loaded"]
    assert [line["event"] for line in lines if line["log_level"] != "debug"] == ["notification_unreadable"]
    assert "\0" not in str(logs)


async def _switched(world: World, requests: SwitchRequests, answers: Callable[[str], Any]) -> Any:
    """Ask, with somebody who listens and answers; returns who has confirmed."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    stranger = await world.pool.acquire()
    channel = await stranger.fetchval("SELECT sandbox_channel($1)", REQUESTS)

    def hear(*arguments: Any) -> None:
        heard.put_nowait(arguments[3])

    await stranger.add_listener(channel, hear)
    try:
        asking = asyncio.create_task(requests.ask([GUILD_A]))
        question = json.loads(await asyncio.wait_for(heard.get(), 60))
        for answer in answers(question["request"]):
            await stranger.execute("SELECT pg_notify(sandbox_channel($1), $2)", ANSWERS, answer)
        return await asking
    finally:
        await stranger.remove_listener(channel, hear)
        await world.pool.release(stranger)


async def test_a_confirmation_counts_only_for_its_question_and_from_the_process_itself(
    world: World, database_url: str
) -> None:
    process = GatewayProcess.this()
    link = await asyncpg.connect(database_url)
    try:
        await announce(link, process)
        # Six seconds for one that never answers.
        forged = await _switched(
            world,
            SwitchRequests(world.pool),
            lambda request: [
                *BAD_CHANGES,
                *BAD_QUESTIONS,
                json.dumps({"request": str(uuid4()), "process": str(process.id)}),
                json.dumps({"request": request, "process": str(uuid4())}),
                json.dumps({"request": request, "process": [str(process.id)]}),
                # Who listens knows the nonce; it is another session that says it.
                json.dumps({"request": request, "process": str(process.id)}),
            ],
        )
        assert (forged.confirmed, forged.unconfirmed) == ((), (process.name,))

        channel = await link.fetchval("SELECT sandbox_channel($1)", REQUESTS)
        questions: asyncio.Queue[str] = asyncio.Queue()
        await link.add_listener(channel, lambda *arguments: questions.put_nowait(arguments[3]))
        await announce(link, process)
        asking = asyncio.create_task(SwitchRequests(world.pool).ask([GUILD_A]))
        request = json.loads(await asyncio.wait_for(questions.get(), 60))["request"]
        answer = json.dumps({"request": request, "process": str(process.id)})
        await link.execute("SELECT pg_notify(sandbox_channel($1), $2)", ANSWERS, answer)
        assert (await asking).confirmed == (process.name,)
    finally:
        await link.close()


async def test_a_process_that_makes_its_link_anew_can_confirm(world: World, database_url: str) -> None:
    process = GatewayProcess.this()
    link = await asyncpg.connect(database_url)
    await announce(link, process)
    questions: asyncio.Queue[str] = asyncio.Queue()
    asking = asyncio.create_task(SwitchRequests(world.pool).ask([GUILD_A]))
    await asyncio.sleep(0.05)
    await link.close()
    link = await asyncpg.connect(database_url)
    try:
        channel = await link.fetchval("SELECT sandbox_channel($1)", REQUESTS)
        await link.add_listener(channel, lambda *arguments: questions.put_nowait(arguments[3]))
        await announce(link, process)
        # It is asked again after a second.
        request = json.loads(await asyncio.wait_for(questions.get(), 60))["request"]
        answer = json.dumps({"request": request, "process": str(process.id)})
        await link.execute("SELECT pg_notify(sandbox_channel($1), $2)", ANSWERS, answer)
        assert (await asking).confirmed == (process.name,)
    finally:
        await link.close()


async def test_a_process_seen_in_times_to_come_is_none(world: World) -> None:
    process = uuid4()
    await world.pool.execute(
        "INSERT INTO gateway_processes (process_id, name, seen_at) VALUES ($1, 'x:1', '2255-01-01')", process
    )
    assert process not in {each.id for each in await Processes(world.pool).live()}
    await Processes(world.pool).leave(GatewayProcess.this())
    assert not await world.pool.fetchval(
        "SELECT count(*) FROM gateway_processes WHERE process_id = $1", process
    )


async def test_rows_of_times_to_come_hold_nothing(world: World) -> None:
    turns = IdentifyRows(world.pool, APPLICATION)
    await world.pool.execute(
        "INSERT INTO gateway_identify_buckets (application_id, bucket, identified_at)"
        " VALUES ($1, 0, '2255-01-01')",
        APPLICATION,
    )
    assert await turns.take(0, 5.0) == 0.0
    assert 0.0 < await turns.take(0, 5.0) <= 5.0
    await turns.count(0, 1)
    await world.pool.execute("UPDATE gateway_shards SET identified_at = '2255-01-01'")
    assert (await turns.attempts(0, 1)).seconds_ago == 0.0
    # A lease until then is nobody's, and its shard is taken.
    await world.pool.execute(
        "UPDATE gateway_shards SET holder = $1, lease_until = '2255-01-01', held_since = now()", uuid4()
    )
    rows = ShardRows(world.pool, APPLICATION, uuid4(), lease=6.0)
    (held,) = await other_leases.held(world.pool, rows._this, 1)
    assert not held.is_live


@pytest.mark.parametrize("moment", [str(IN_2255), "inf", "nan", "1e308"])
async def test_a_route_of_times_to_come_is_not_believed_and_goes(
    world: World, servers: EmbeddedServers, moment: str
) -> None:
    mine, other = await world.sandbox(GUILD_A), str(uuid4())
    await started(world)
    await until_in_redis_or_not(world)
    await world.redis.set(route_key(GUILD_A), other)
    await world.redis.set(route_moment_key(GUILD_A), f"{moment} {IN_2255} {other}")
    found = (await RouteCache(world.redis, timedelta(seconds=60)).get_many([GUILD_A]))[GUILD_A]
    assert found.as_of == -math.inf
    await postgres_gone(world, servers)
    # What this process knew counts.
    assert await world.provider.lookup(GUILD_A) == Route(mine, FAR)
    await servers.postgres.start()
    await until(lambda: world.provider.current_table is not None, within=30)
    await world.redis.set(route_key(GUILD_A), other)
    await world.redis.set(route_moment_key(GUILD_A), f"{moment} {IN_2255} {other}")
    await world.unmap(GUILD_A)
    await until_in_redis(world, GUILD_A, ROUTE_NULL)


async def until_in_redis_or_not(world: World) -> None:
    """Whatever was to be written is."""
    await until(lambda: not world.provider._writer._unwritten)


async def test_the_margin_is_measured_on_the_databases_clock(world: World) -> None:
    database = 1_000_000.0
    cache = RouteCache(world.redis, timedelta(seconds=60), database_now=lambda: database)
    for ahead, believed in ((MARGIN - 1, True), (MARGIN + 1, False)):
        value = str(uuid4())
        await world.redis.set(route_key(GUILD_A), value)
        await world.redis.set(route_moment_key(GUILD_A), f"{database + ahead} {IN_2255} {value}")
        found = (await cache.get_many([GUILD_A]))[GUILD_A]
        assert (found.as_of == database + ahead) is believed
        await cache.put_many({GUILD_A: DatedRoute(None, database)})
        assert (await in_redis(world, GUILD_A) == ROUTE_NULL) is not believed


async def test_what_is_announced_for_times_to_come_is_not_believed(
    world: World, servers: EmbeddedServers
) -> None:
    mine, other = await world.sandbox(GUILD_A), str(uuid4())
    await started(world)
    await postgres_gone(world, servers)
    for moment in (IN_2255, math.inf, math.nan, -1.0):
        world.provider.heard({GUILD_A: Route(other, FAR)}, moment)
    assert await world.provider.lookup(GUILD_A) == Route(mine, FAR)
    now = world.follower.database_now()
    assert now is not None
    world.provider.heard({GUILD_A: None}, now)
    assert await world.provider.lookup(GUILD_A) is None


async def test_announcements_that_are_none(connection: NatsConnection, reader: Client) -> None:
    heard: list[Any] = []
    subject = DEFAULT_NAMES.route_announcements_subject
    announcements = RouteAnnouncements(connection, subject)
    await announcements.hear(lambda routes, as_of: heard.append((routes, as_of)))
    await connection.client.flush()
    bad = [
        *("", "null", "[]", "{}", "\xff", '{"as_of": "now", "routes": {}}', '{"as_of": 1e999, "routes": {}}'),
        '{"as_of": 1, "routes": {"\\u0000": null}}',
        '{"as_of": 1, "routes": {"0613425648685547541": null}}',
        '{"as_of": 1, "routes": {"613425648685547541": {"sandbox_id": "x", "expires_at": 1}}}',
        '{"as_of": 1, "routes": ' + _DEEP,
    ]
    with capture_logs() as logs:
        for text in bad:
            await reader.publish(subject, text.encode("latin-1"))
        await reader.publish(subject, b'{"as_of": 1, "routes": {"%s": null}, "more": 1}' % GUILD_A.encode())
        await until(lambda: heard)
    assert heard == [({GUILD_A: None}, 1.0)]
    assert [line["event"] for line in logs] == ["route_announcement_unreadable"]
    await announcements.hear(lambda routes, as_of: None)


class NoStream:
    async def look(self, spans: object, *, at_most: int) -> Any:
        raise AssertionError("nothing is looked for")


@pytest.mark.parametrize("moment", [IN_2255, math.inf])
async def test_last_events_of_times_to_come(world: World, moment: float) -> None:
    record = LastEventRecord(world.redis)
    now = 1_000_000.0
    last = LastEvents(Activity(lambda: now, RoutingMetrics()), record, None, now=lambda: now)
    await record.begin(1, now - 90_000, now)
    await world.redis.zadd(LAST_EVENTS_KEY, {GUILD_A: moment})
    # That it had none is not said either.
    assert not (await last.of(GUILD_A)).is_none
    assert (await last.of(GUILD_A)).ago is None
    assert (await last.of(GUILD_B)).is_none
    await record.forget_beyond(now - 90_000, now + MARGIN)
    assert await world.redis.zscore(LAST_EVENTS_KEY, GUILD_A) is None
    # A record that is from then as a whole is begun anew.
    for member in ("since", "until", "number"):
        await world.redis.zadd(LAST_EVENTS_KEY, {member: -moment})
    assert not (await last.of(GUILD_B)).is_none
    await last.write()
    state = await record.state()
    assert state is not None
    assert state.until == now


APPLICATION = 300000000000000001


async def test_resume_points_of_times_to_come_and_such_as_nobody_saves(world: World) -> None:
    now = 1_700_000_000.0
    keys = GatewaySessions(world.redis, now=lambda: now)
    points = ResumePoints(keys, ResumePointRows(world.pool), now=lambda: now)
    forged = ResumePoint("forged", "wss://gateway.discord.gg", 5, since=IN_2255, saved_at=IN_2255)
    await keys.save(APPLICATION, 1, {0: forged})
    loaded = await points.load(APPLICATION, 0, 1)
    assert loaded is not None
    assert (loaded.since, loaded.saved_at) == (now - 600.0, 0.0)
    # It loses against what somebody saved, and does not hinder saving.
    real = ResumePoint("real", "wss://gateway.discord.gg", 4, since=now - 5, saved_at=now - 5)
    await ResumePointRows(world.pool).save(APPLICATION, 1, {0: real})
    assert await points.load(APPLICATION, 0, 1) == real
    forged_epoch = ResumePoint("forged", "wss://x", 5, since=now, saved_at=IN_2255, epoch=1 << 50)
    await world.redis.set(
        gateway_session_key(APPLICATION, 0, 1),
        json.dumps({name: getattr(forged_epoch, name) for name in forged_epoch.__dataclass_fields__}),
    )
    await points.save(APPLICATION, 1, {0: real})
    assert await keys.load(APPLICATION, 0, 1) == real
    for session_id, sequence, epoch in (
        ("a\r\nNats-Rollup: all", 1, 1),
        ("", 1, 1),
        ("x" * 300, 1, 1),
        ("é", 1, 1),
        ("real", -1, 1),
        ("real", 1 << 60, 1),
        ("real", 1, 1 << 60),
    ):
        bad = ResumePoint(session_id, "wss://x", sequence, now, now, epoch)
        await world.redis.set(
            gateway_session_key(APPLICATION, 1, 2),
            json.dumps({name: getattr(bad, name) for name in bad.__dataclass_fields__}),
        )
        assert await points.load(APPLICATION, 1, 2) is None
