"""What `status`, `sandboxctl` and `/metrics` say of what a sandbox may use, with the real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from sandbox_bot.cli import _json, _views
from sandbox_bot.cli._screen import plain
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core, open_core
from sandbox_core.limits_text import Limits, lines
from sandbox_core.measuring import Measuring
from sandbox_core.models import Actor
from tests.cogs.conftest import (
    DEV_GUILD,
    PROTECTED_GUILD,
    Scene,
    Stopwatch,
    embed_of,
    scene,
    simcord_bot,
    stopwatch,
)

from .conftest import ALICE, hold, opened, settings_of

__all__ = ["scene", "simcord_bot", "stopwatch"]


@pytest.fixture
async def core(closed: EmbeddedServers, stopwatch: Stopwatch) -> AsyncIterator[Core]:
    settings = settings_of(
        closed,
        discord_dev_guild_ids=str(DEV_GUILD),
        discord_protected_guild_ids=str(PROTECTED_GUILD),
        sandbox_redis_mb=1,
    )
    async with open_core(settings) as made:
        # nats-py starts the task that reads answers with the first request.
        await made.js.account_info()
        await made.sandbox_js.account_info()
        await made.pool.execute("DELETE FROM sandbox_storage_turns")
        async with asyncio.timeout(60):
            while made.routes.current_table is None:
                await asyncio.sleep(0.005)
        yield made
        for sandbox in await made.manager.list():
            await made.manager.destroy(Actor("test", is_bot_owner=True), sandbox.name)


async def measure(core: Core) -> None:
    for store in core.measuring.stores:
        await core.measuring.turn(store)
    await core.cleanup.keep_credentials()


async def test_status_says_what_is_used_of_each_limit(scene: Scene) -> None:
    core = scene.core
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    embed = embed_of(await scene.alice.slash(scene.channel, "sandbox status", name="mine"))
    (used,) = [field.value for field in embed.fields if field.name == "Limits"]
    assert used is not None
    assert used.splitlines() == [
        "Discord: 0 of 100 servers",
        "PostgreSQL: 256 MiB at most, not measured yet · 0 of 20 connections · 60 s for a statement",
        "Redis: 1 MiB at most, not measured yet · 500,000 keys at most",
        "NATS: 0 of 20 MiB · 0 of 10 connections · 0 of 500,000 events · 0 of 50 consumers",
    ]
    sandbox = await core.manager.get("mine")
    variables = core.manager.credentials(sandbox)
    from redis.asyncio import Redis

    async with Redis.from_url(variables["REDIS_URL"]) as redis:
        await redis.set(f"sandbox:{sandbox.id}:a", "x" * 1_500_000)
    await measure(core)
    embed = embed_of(await scene.alice.slash(scene.channel, "sandbox status", name="mine"))
    assert (embed.description or "").endswith("\nIt stores as much as it may in Redis.")
    (used,) = [field.value for field in embed.fields if field.name == "Limits"]
    assert used is not None
    of_postgres, of_redis = used.splitlines()[1:3]
    assert of_postgres.startswith("PostgreSQL: 0.1 of 256 MiB, measured ")
    assert of_redis.startswith("Redis: 1.4 of 1 MiB, measured ")
    assert of_redis.endswith(
        " s ago · 1 of 500,000 keys · full: its login may read and delete, and not write"
    )
    refused = embed_of(await scene.alice.slash(scene.channel, "sandbox create", name="second"))
    assert refused.footer.text == "SANDBOX_014"
    assert refused.title == "Your sandbox `mine` is full: it stores 1.4 MiB in Redis, and the limit is 1 MiB."


async def test_the_command_line_says_the_same(core: Core) -> None:
    mine = await hold(core, "mine")
    connection = await mine.postgres()
    await measure(core)
    health, limits, now = await core.manager.health("mine"), Limits.of(core.settings), datetime.now(UTC)
    await connection.close()
    text = plain(*_views.health(health, limits, now))
    assert "1 of 20 connections" in text
    shape = json.loads(json.dumps(_json.status(health, limits, now)))
    uses = {(each["store"], each["what"]): each for each in shape["limits"]}
    assert uses["PostgreSQL", "bytes"]["limit"] == 256 * 1024 * 1024
    assert uses["PostgreSQL", "bytes"]["used"] > 0
    assert uses["PostgreSQL", "bytes"]["measured_at"].endswith("Z")
    assert uses["PostgreSQL", "connections"] == {
        "store": "PostgreSQL",
        "what": "connections",
        "used": 1,
        "limit": 20,
        "measured_at": None,
    }
    assert uses["PostgreSQL", "statement_seconds"]["limit"] == 60
    assert uses["Redis", "keys"]["used"] == 0
    assert uses["NATS", "messages"]["limit"] == 500_000
    assert uses["NATS", "connections"]["limit"] == 10
    assert uses["Discord", "guilds"]["limit"] == 100
    (listed,) = _json.listing(await core.manager.list(), {}, now)["sandboxes"]
    assert [(each["store"], each["level"]) for each in listed["stored"]] == [
        ("PostgreSQL", "room"),
        ("Redis", "room"),
    ]


async def test_metrics_say_what_is_stored(core: Core) -> None:
    mine = await hold(core, "mine")
    async with mine.redis() as redis:
        await redis.set(f"{mine.prefix}a", "x" * 1_500_000)
    await measure(core)
    await core.measuring.refresh_gauges()

    def value(name: str, **labels: str) -> float | None:
        return core.metrics.registry.get_sample_value(name, labels)

    short = mine.sandbox.short_id
    assert (value("sandbox_storage_bytes", store="Redis", sandbox=short) or 0) > 1_500_000
    assert value("sandbox_storage_bytes", store="Redis", sandbox="other") == 0
    assert value("sandbox_storage_sandboxes", store="Redis", level="full") == 1
    assert value("sandbox_storage_sandboxes", store="PostgreSQL", level="room") == 1
    age = value("sandbox_storage_measured_age_seconds", store="Redis")
    assert age is not None
    assert 0 <= age < 30


async def test_by_convention_the_same_is_measured_and_nothing_refused(closed: EmbeddedServers) -> None:
    settings = settings_of(closed, sandbox_isolation="convention", sandbox_redis_mb=1)
    for others in ({}, {"sandbox_database_url": None, "sandbox_redis_url": None, "sandbox_nats_url": None}):
        async with opened(settings.model_copy(update=others)) as core:
            made = (await core.manager.create(ALICE, name="shared")).sandbox
            try:
                server = core.tenants.every_keys[0]._redis
                await server.set(f"sandbox:{made.id}:a", "x" * 1_500_000)
                measuring = Measuring(
                    pool=core.pool,
                    namespaces=core.namespaces,
                    limits=core.measuring.limits,
                    clock=lambda: datetime.now(UTC) + timedelta(days=2),
                )
                await core.pool.execute("DELETE FROM sandbox_storage_turns")
                for store in measuring.stores:
                    await measuring.turn(store)
                await core.cleanup.keep_credentials()
                health = await core.manager.health("shared")
                said = dict(lines(health, Limits.of(core.settings), datetime.now(UTC)))
                assert said["Redis"].endswith(" · 1 of 500,000 keys · full")
                assert said["PostgreSQL"].startswith("0.1 of 256 MiB, measured ")
                assert await server.set(f"sandbox:{made.id}:b", "x")
            finally:
                await core.pool.execute("DELETE FROM sandbox_storage_turns")
                await core.manager.destroy(ALICE, "shared")
