"""A switch saves the resume points first, in PostgreSQL when Redis is away; the next process finds them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bot.embedded import EmbeddedServers
from bot.gateway.sessions import SessionBook
from sandbox_core.bootstrap import Core, open_core
from sandbox_core.models import Actor, GuildAccess
from sandbox_core.settings import load_settings

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
    book.began(0, "wss://resume.invalid")
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
    first.began(0, "wss://resume.invalid")
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
    point = second.resume_point(0)
    assert point is not None
    assert (point.session_id, point.sequence) == ("session", 1)
    second.resuming(0, point)
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
