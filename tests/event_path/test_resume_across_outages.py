"""A switch saves the resume points first, in PostgreSQL when Redis is away; the next process finds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core, open_core
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.settings import load_settings
from sandbox_core.sharding.sessions import SessionBook

from .conftest import GUILD_A, GUILD_B, dispatch, until

APPLICATION = 300000000000000001
ALICE = Actor("200000000000000001", "Alice")
ACCESS = GuildAccess(GUILD_A, bot_is_member=True, caller_manages=True, name="A")


@pytest.fixture
async def core(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Core]:
    settings = load_settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, nats_url=nats_url
    )
    async with open_core(settings) as opened:
        await until(lambda: opened.routes.current_table is not None)
        yield opened


def book_of(core: Core) -> SessionBook:
    return SessionBook(core.resume_points, core.intake, core.metrics, stored=core.stored_events)


def send(core: Core, raw: bytes) -> None:
    frame = core.intake.read(raw)
    assert frame is not None
    core.intake.take(frame, 0)


async def test_a_switch_saves_where_to_resume_also_without_redis(
    core: Core, servers: EmbeddedServers
) -> None:
    await core.manager.create(ALICE, name="mine")
    book = book_of(core)
    await book.open(APPLICATION, (0,), 1)
    send(core, dispatch(1, "READY", session_id="session", shard=[0, 1]))
    book.of(0).began("wss://resume.invalid")
    # From here on only switches save.
    assert book._saver is not None
    book._saver.cancel()
    await servers.valkey.kill()
    for seq in (2, 3, 4):
        send(core, dispatch(seq, guild_id=GUILD_A))
    assert (await core.manager.register_guild(ALICE, "mine", ACCESS)).unconfirmed == ()
    point = await core.resume_points.load(APPLICATION, 0, 1)
    assert point is not None
    assert (point.session_id, point.resume_url) == ("session", "wss://resume.invalid")
    # What was in flight when the switch was asked for was waited for; the rest follows on the new side.
    assert 2 <= point.sequence <= 4
    await core.router.idle()
    await servers.valkey.start()
    await book.close()


async def test_the_next_process_passes_over_what_is_stored(core: Core) -> None:
    first = book_of(core)
    await first.open(APPLICATION, (0,), 1)
    send(core, dispatch(1, "READY", session_id="session", shard=[0, 1]))
    first.of(0).began("wss://resume.invalid")
    await first._save()
    assert first._saver is not None
    first._saver.cancel()
    for seq in range(2, 12):
        send(core, dispatch(seq, guild_id=GUILD_B))
    await core.router.idle()

    # The first process is gone, and has saved nothing more.
    core.intake.forget(0)
    second = book_of(core)
    await second.open(APPLICATION, (0,), 1)
    point = second.of(0).resume_point()
    assert point is not None
    assert (point.session_id, point.sequence) == ("session", 1)
    second.of(0).resuming(point)
    routed = core.metrics.routing.routed["production"]
    for seq in range(2, 14):
        send(core, dispatch(seq, guild_id=GUILD_B))
    await core.router.idle()
    assert core.metrics.routing.routed["production"] - routed == 2
    ledger = core.intake.ledger(0)
    assert ledger is not None
    assert (ledger.acknowledged, ledger.lag) == (13, 0)
    # A third process has to read from where the first one began, until the point is beyond its events.
    await second._save()
    saved = await core.resume_points.load(APPLICATION, 0, 1)
    assert saved is not None
    assert (saved.sequence, saved.since > point.since) == (13, True)
    await second.close()


async def test_a_session_that_cannot_be_looked_up_counts_as_a_possible_gap(
    core: Core, servers: EmbeddedServers
) -> None:
    gaps = core.metrics.gateway_gaps._value.get
    before = gaps()
    book = book_of(core)
    await servers.valkey.kill()
    await book.open(APPLICATION, (), 1)
    await book.add(0, 1)
    assert book.of(0).resume_point() is None
    send(core, dispatch(1, "READY", session_id="session", shard=[0, 1]))
    with capture_logs() as logs:
        book.of(0).began("wss://resume.invalid")
        # What follows is this process's own.
        book.of(0).began("wss://resume.invalid")
    assert [entry["event"] for entry in logs] == ["session_lost"]
    assert gaps() == before + 1
    await servers.valkey.start()
    await book.close()


async def test_while_neither_store_answers_the_next_process_waits_for_a_while(
    core: Core, servers: EmbeddedServers
) -> None:
    first = book_of(core)
    await first.open(APPLICATION, (0,), 1)
    send(core, dispatch(1, "READY", session_id="session", shard=[0, 1]))
    first.of(0).began("wss://resume.invalid")
    await first._save()
    assert first._saver is not None
    first._saver.cancel()
    core.intake.forget(0)
    await servers.valkey.kill()
    await servers.postgres.kill()

    impatient = SessionBook(core.resume_points, core.intake, core.metrics, stores_within=0.0)
    await impatient.open(APPLICATION, (0,), 1)
    assert impatient.of(0).resume_point() is None
    assert impatient._saver is not None
    impatient._saver.cancel()

    second = book_of(core)
    with capture_logs() as logs:
        opening = asyncio.create_task(second.open(APPLICATION, (0,), 1))
        await until(lambda: [entry for entry in logs if entry["event"] == "session_waits"])
        await servers.postgres.start()
        async with asyncio.timeout(60):
            await opening
    assert [entry for entry in logs if entry["event"] == "session_not_loaded"] == []
    point = second.of(0).resume_point()
    assert point is not None
    assert (point.session_id, point.resume_url) == ("session", "wss://resume.invalid")
    await servers.valkey.start()
    await second.close()


async def test_a_refused_session_is_forgotten_and_a_newer_one_is_not(core: Core) -> None:
    thawed, holder = book_of(core), book_of(core)
    for book, session_id in ((thawed, "old"), (holder, "new")):
        await book.open(APPLICATION, (), 1)
        assert book._saver is not None
        book._saver.cancel()
        send(core, dispatch(1, "READY", session_id=session_id, shard=[0, 1]))
        book.of(0).began("wss://resume.invalid")
        await book._save()
        if book is thawed:
            refused = book.of(0).resume_point()
            assert refused is not None
            # The other process's intake is another one.
            core.intake.forget(0)
    thawed.of(0).refused()
    thawed.of(0).found(refused, set())
    await thawed.ended(0)
    point = await core.resume_points.load(APPLICATION, 0, 1)
    assert point is not None
    assert point.session_id == "new"
    await holder.ended(0)
    assert await core.resume_points.load(APPLICATION, 0, 1) is None
