"""The extension as a host loads it, with its loops running on the real clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import discord
import pytest
from discord.ext import commands
from nats.js.api import ConsumerConfig
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_cogs.upkeep import Upkeep
from sandbox_core.bootstrap import Core
from sandbox_core.errors import DependencyUnavailable, SandboxNotFound
from sandbox_core.models import Actor, Sandbox
from sandbox_core.subjects import redis_prefix, sandbox_dead_letter
from tests.event_path.conftest import count

EXTENSION = "sandbox_cogs.upkeep"
ALICE = Actor("200000000000000001", "Alice")


def upkeep_tasks() -> list[str]:
    return sorted(t.get_name() for t in asyncio.all_tasks() if t.get_name().startswith("upkeep-"))


async def until(condition: Callable[[], Awaitable[object]], within: float = 60.0) -> None:
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.02)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@pytest.fixture
async def bot(core: Core) -> AsyncIterator[commands.Bot]:
    bot = commands.Bot("!", intents=discord.Intents.default())
    bot.sandbox_core = core  # type: ignore[attr-defined]
    yield bot
    await bot.close()


async def expires_in(core: Core, sandbox: Sandbox, seconds: float) -> datetime:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    await core.pool.execute(
        "UPDATE sandboxes SET created_at = $2, expires_at = $3 WHERE id = $1",
        sandbox.id,
        moment - timedelta(hours=1),
        moment,
    )
    return moment


async def is_gone(core: Core, sandbox: Sandbox) -> bool:
    try:
        await core.manager.get(str(sandbox.id))
    except SandboxNotFound:
        return True
    return False


async def test_an_expired_sandbox_is_fully_gone_within_ten_seconds(core: Core, bot: commands.Bot) -> None:
    sandbox = (await core.manager.create(ALICE, name="mine")).sandbox
    stays = (await core.manager.create(ALICE, name="stays")).sandbox
    await core.redis.set(redis_prefix(sandbox.id) + "x", "x")
    await bot.load_extension(EXTENSION)
    moment = await expires_in(core, sandbox, 1.0)

    await until(lambda: is_gone(core, sandbox))

    assert datetime.now(UTC) - moment < timedelta(seconds=10)
    assert await core.redis.keys(redis_prefix(sandbox.id) + "*") == []
    assert await core.pool.fetchval("SELECT sandbox_schema_exists($1)", sandbox.short_id) is False
    registry = core.metrics.registry

    async def counted() -> bool:
        return value(registry, "sandbox_cleanup_runs_total", result="ok") == 1

    # The pass is counted at its end, a moment after the sandbox is gone.
    await until(counted)
    assert value(registry, "sandbox_cleanup_sandboxes_total") == 1
    assert value(registry, "sandbox_destroyed_total") == 1
    assert not await is_gone(core, stays)


async def test_the_first_pass_comes_at_once_and_counts(core: Core, bot: commands.Bot) -> None:
    """After a crash the next start finds what was left."""
    gone = (await core.manager.create(ALICE, name="gone")).sandbox
    await core.manager.destroy(ALICE, "gone")
    await core.redis.set(redis_prefix(gone.id) + "left", "x")
    await core.manager.create(ALICE, name="stays")
    await bot.load_extension(EXTENSION)

    async def keys_are_gone() -> bool:
        return await core.redis.keys(redis_prefix(gone.id) + "*") == []

    await until(keys_are_gone)

    async def counted() -> bool:
        return value(core.metrics.registry, "sandbox_active_count") == 1

    await until(counted)


async def test_unloading_leaves_nothing_and_writes_the_activity(core: Core, bot: commands.Bot) -> None:
    sandbox = (await core.manager.create(ALICE, name="mine")).sandbox
    before = set(asyncio.all_tasks())
    await bot.load_extension(EXTENSION)
    assert upkeep_tasks() == [
        f"upkeep-{name}"
        for name in (
            *("commands", "consumers", "count", "credentials", "letters", "measure-PostgreSQL"),
            *("measure-Redis", "pass", "record", "recordings", "remove", "resets", "tell"),
        )
    ]

    async def counted() -> bool:
        return value(core.metrics.registry, "sandbox_active_count") == 1

    await until(counted)
    count(core.router.activity, "100000000000000001", str(sandbox.id))
    await bot.unload_extension(EXTENSION)
    assert upkeep_tasks() == []
    assert {task for task in asyncio.all_tasks() if not task.done()} <= before
    touched = (await core.manager.get("mine")).last_activity_at
    assert touched is not None
    assert abs(touched.timestamp() - time.time()) < 60
    await bot.load_extension(EXTENSION)
    assert len(upkeep_tasks()) == 13


async def test_dead_letters_are_counted_by_sandbox(core: Core, bot: commands.Bot) -> None:
    sandbox = (await core.manager.create(ALICE, name="mine")).sandbox
    for _ in range(2):
        await core.js.publish(sandbox_dead_letter(sandbox.id, "UNHANDLED"), b"{}")
    await bot.load_extension(EXTENSION)

    async def counted() -> bool:
        registry = core.metrics.registry
        return value(registry, "sandbox_dead_letters", sandbox=sandbox.short_id) == 2

    await until(counted)
    assert value(core.metrics.registry, "sandbox_dead_letters", sandbox="other") == 0
    await bot.unload_extension(EXTENSION)


async def test_productions_consumers_are_measured(core: Core, bot: commands.Bot) -> None:
    stream, names = core.settings.stream_names.events, core.settings.stream_names
    await core.js.add_consumer(stream, ConsumerConfig(durable_name="xp", filter_subject="events.*"))
    for _ in range(2):
        await core.js.publish(names.production_subject("MESSAGE_CREATE"), b"{}")
    await core.js.publish(names.dead_letter_subject("UNHANDLED"), b"{}")
    await core.js.publish(names.dead_letter_subject("TOO_LARGE"), b"{}")
    await bot.load_extension(EXTENSION)
    registry = core.metrics.registry

    async def measured() -> bool:
        return value(registry, "sandbox_production_consumers_read") == 1

    await until(measured)
    assert value(registry, "sandbox_production_consumer_lag", consumer="xp") == 2
    assert value(registry, "sandbox_production_consumer_lag", consumer="other") == 0
    letters = [value(registry, "sandbox_production_dead_letters", source=who) for who in ("worker", "bot")]
    assert letters == [1, 1]
    await core.js.delete_stream(stream)
    with pytest.raises(DependencyUnavailable):
        await core.consumers.refresh_gauges()
    # Nobody knows is not nothing.
    assert registry.get_sample_value("sandbox_production_consumer_lag", {"consumer": "xp"}) is None
    assert registry.get_sample_value("sandbox_production_dead_letters", {"source": "bot"}) is None
    await bot.unload_extension(EXTENSION)


async def test_unloading_ends_a_loop_whose_driver_loses_the_cancellation(
    core: Core, bot: commands.Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, begun = 0, asyncio.Event()

    async def deaf() -> float:
        nonlocal lost
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if lost == 2:
                raise
            lost += 1
        return 1.0

    monkeypatch.setattr("sandbox_core.tasks._AGAIN_AFTER", 0.01)
    upkeep = Upkeep(bot, core)
    monkeypatch.setattr(upkeep, "remove_due", deaf)
    await upkeep.cog_load()
    await begun.wait()
    async with asyncio.timeout(60):
        await upkeep.cog_unload()
    assert lost >= 1
    assert upkeep_tasks() == []


async def test_activity_is_kept_while_postgresql_is_away(
    core: Core, bot: commands.Bot, servers: EmbeddedServers
) -> None:
    sandbox = (await core.manager.create(ALICE, name="mine")).sandbox
    upkeep = Upkeep(bot, core)
    count(core.router.activity, "100000000000000001", str(sandbox.id))
    await servers.postgres.kill()
    try:
        with pytest.raises(DependencyUnavailable):
            await upkeep._record_activity()
    finally:
        await servers.postgres.start()

    async def written() -> bool:
        try:
            await upkeep._record_activity()
        except DependencyUnavailable:
            return False
        return (await core.manager.get("mine")).last_activity_at is not None

    await until(written)
    assert upkeep._touched == {}


async def test_when_it_looks_again(core: Core, bot: commands.Bot) -> None:
    now = datetime.now(UTC)
    upkeep = Upkeep(bot, core, clock=lambda: now)
    assert await upkeep.remove_due() == 3.0
    sandbox = (await core.manager.create(ALICE, name="mine")).sandbox
    assert await upkeep.remove_due() == 3.0
    for seconds, pause in ((1.5, 1.5), (0.01, 0.25), (100, 3.0)):
        moment = now + timedelta(seconds=seconds + 3600)
        # Not due by PostgreSQL's rows as the core's own clock sees them: only the pause is looked at.
        await core.pool.execute("UPDATE sandboxes SET expires_at = $2 WHERE id = $1", sandbox.id, moment)
        shifted = Upkeep(bot, core, clock=lambda: now + timedelta(hours=1))
        assert await shifted.remove_due() == pytest.approx(pause)


async def test_a_loop_outlives_its_failures_and_says_so_once(core: Core, bot: commands.Bot) -> None:
    turns = 0
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds > 0

    async def work() -> float:
        nonlocal turns
        turns += 1
        if turns <= 3:
            raise DependencyUnavailable("PostgreSQL", "connection refused")
        if turns == 4:
            raise ZeroDivisionError
        if turns == 6:
            done.set()
            await asyncio.Event().wait()
        return 1.0

    upkeep = Upkeep(bot, core, sleep=sleep)
    with capture_logs() as logs:
        loop = asyncio.create_task(upkeep._forever("work", work))
        await asyncio.wait_for(done.wait(), 60)
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop
    # The core says something of its own now and then.
    said = [entry["event"] for entry in logs if entry["event"].startswith("upkeep_")]
    assert said == ["upkeep_waits", "upkeep_failed", "upkeep_resumed"]


async def test_a_degraded_sandbox_and_unknown_orphans_are_told_in_the_log(
    core: Core, bot: commands.Bot
) -> None:
    sandbox = (await core.manager.create(ALICE, name="mine")).sandbox
    await core.pool.execute("SELECT drop_sandbox_schema($1)", sandbox.short_id)
    await core.pool.execute("SELECT create_sandbox_schema('00000000')")
    with capture_logs() as logs:
        pause = await Upkeep(bot, core).full_pass()
    assert pause == 15 * 60
    assert [entry["event"] for entry in logs] == ["sandbox_degraded", "orphans_unknown"]
    assert logs[0]["missing"] == f"the schema {sandbox.schema_name}"
