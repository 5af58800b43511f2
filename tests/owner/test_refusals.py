"""What the owner can't do, and what nobody else may notice."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import discord
import pytest
from discord.ext import commands
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.events import OWNER_COMMANDS

from .conftest import Scene


async def stored(scene: Scene) -> list[Any]:
    return [tuple(row) for row in await scene.core.pool.fetch("SELECT id, status, expires_at FROM sandboxes")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("status nope", "SANDBOX_004"),
        ("destroy nope", "SANDBOX_004"),
        ("destroy nope yes", "SANDBOX_004"),
        ("extend nope 2h", "SANDBOX_004"),
        ("audit nope", "SANDBOX_004"),
        ("audit `@everyone`", "SANDBOX_004"),
        ("destroy", "SANDBOX_007"),
        ("extend", "SANDBOX_007"),
        ("extend my-box", "SANDBOX_007"),
        ("extend my-box -1h", "SANDBOX_007"),
        ("extend my-box tomorrow", "SANDBOX_007"),
        ("audit", "SANDBOX_007"),
        ("extend over-box 2h", "SANDBOX_008"),
    ],
)
async def test_a_mistake_gets_a_sentence_and_its_code(scene: Scene, text: str, code: str) -> None:
    await scene.sandbox("my-box")
    await scene.sandbox("over-box")
    await scene.let_expire("over-box")
    before = await stored(scene)
    sentence, *_, last = (await scene.answer(text)).splitlines()
    assert last == f"-# {code}"
    assert sentence.endswith(".")
    assert "@" not in sentence
    assert await stored(scene) == before


async def test_the_nearest_name_is_suggested(scene: Scene) -> None:
    await scene.sandbox("my-box")
    assert "`my-box`" in await scene.answer("status my-bux")


@pytest.mark.parametrize("word", OWNER_COMMANDS)
async def test_others_get_silence(scene: Scene, word: str) -> None:
    await scene.sandbox("my-box")
    before = await stored(scene)
    for text in (word, f"{word} my-box", f"{word} my-box yes"):
        assert await scene.dm(text, scene.other) == []
        assert await scene.in_guild(text, scene.other) == []
        assert await scene.in_guild(text) == []
        assert scene.typed == []
    assert await stored(scene) == before


async def test_what_is_no_command_gets_silence(scene: Scene) -> None:
    for text in ("hello", "list of guests", "!list", "help me"):
        assert await scene.dm(text) == []


async def test_a_fault_is_one_sentence_with_an_id_that_is_in_the_log(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(scene.core.manager, "list", fail)
    with capture_logs() as logs:
        text = await scene.answer("list")
    (entry,) = [entry for entry in logs if entry["event"] == "owner_command_failed"]
    assert text == f"Something went wrong inside the bot. It is in the log under `{entry['error_id']}`."
    assert isinstance(entry["exc_info"], ZeroDivisionError)
    assert await scene.answer("health")


async def test_discord_not_taking_the_answer_is_logged(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("gone")

    await scene.sandbox("my-box")
    monkeypatch.setattr(scene.bot.http, "send_message", unreachable)
    # A typing indicator that can't be shown keeps nothing from being done.
    monkeypatch.setattr(scene.bot.http, "send_typing", unreachable)
    with capture_logs() as logs:
        assert await scene.dm("destroy my-box") == []
    assert [entry["command"] for entry in logs if entry["event"] == "owner_command_not_answered"] == [
        "destroy"
    ]


async def test_postgresql_away(scene: Scene, servers: EmbeddedServers) -> None:
    await scene.sandbox("my-box")
    await servers.postgres.stop()
    try:
        for text in ("list", "status my-box", "destroy my-box", "extend my-box 2h", "audit my-box"):
            assert (await scene.answer(text)).endswith("-# SANDBOX_012")
        assert (await scene.answer("status")).startswith("🔴 Sandboxes: unknown (PostgreSQL: ")
        text = await scene.answer("health")
        assert "🔴 PostgreSQL: " in text
        assert "🟢 Redis: answers" in text
        assert "🟢 NATS: answers" in text
        await until_not_current(scene)
        assert (await scene.answer("routes")).endswith("-# SANDBOX_012")
        assert "changes may come late" in await scene.answer("status")
    finally:
        await servers.postgres.start()


async def until_not_current(scene: Scene) -> None:
    async with asyncio.timeout(60):
        while scene.core.routes.current_table is not None:
            await asyncio.sleep(0.01)


async def test_redis_and_nats_away(scene: Scene, servers: EmbeddedServers) -> None:
    await scene.sandbox("my-box")
    await servers.valkey.stop()
    await servers.nats.stop()
    try:
        text = await scene.answer("health")
        assert "🟢 PostgreSQL: answers" in text
        assert "🔴 Redis: " in text
        assert "🔴 NATS: " in text
        assert "my-box" in await scene.answer("list")
        assert "**my-box**: 🔴 running, unhealthy" in await scene.answer("status my-box")
    finally:
        await servers.valkey.start()
        await servers.nats.start()


async def test_postgresql_hanging_does_not_leave_the_owner_without_an_answer(
    scene: Scene, database_url: str
) -> None:
    blocker = await asyncpg.connect(database_url)
    try:
        await blocker.execute("BEGIN; LOCK TABLE sandboxes")
        async with asyncio.timeout(60):
            assert (await scene.answer("list")).endswith("-# SANDBOX_012")
    finally:
        await blocker.close()


async def test_the_hosts_own_text_commands_and_listeners_go_on(scene: Scene) -> None:
    heard: list[str] = []

    @scene.bot.command(name="list")
    async def theirs(ctx: commands.Context[Any]) -> None:
        await ctx.send("theirs", allowed_mentions=discord.AllowedMentions.none())

    @scene.bot.check
    async def never_in_messages(ctx: commands.Context[Any]) -> bool:
        return ctx.guild is not None

    @scene.bot.listen()
    async def on_message(message: discord.Message) -> None:
        if not message.author.bot:
            heard.append(message.content)

    assert [reply.text for reply in await scene.in_guild("!list")] == ["theirs"]
    assert await scene.answer("list") == "There are no sandboxes."
    assert heard == ["!list", "list"]
    assert scene.bot.get_command("help") is not None


async def test_unloaded_it_is_silent_and_reloaded_it_answers_once(scene: Scene) -> None:
    await scene.bot.reload_extension("sandbox_cogs.owner")
    assert await scene.answer("list") == "There are no sandboxes."
    await scene.bot.unload_extension("sandbox_cogs.owner")
    assert await scene.dm("list") == []
    assert scene.core.intake.owner_ids == frozenset()
    assert not any(scene.bot.extra_events.values())


async def test_unloading_waits_for_the_answer_that_is_under_way(scene: Scene, database_url: str) -> None:
    cog: Any = scene.bot.get_cog("OwnerMessages")
    blocker = await asyncpg.connect(database_url)
    try:
        await blocker.execute("BEGIN; LOCK TABLE sandboxes")
        asked = asyncio.create_task(scene.dm("list"))
        async with asyncio.timeout(60):
            while not cog._running:
                await asyncio.sleep(0)
        unloading = asyncio.create_task(scene.bot.unload_extension("sandbox_cogs.owner"))
        async with asyncio.timeout(60):
            while scene.core.intake.owner_ids:
                await asyncio.sleep(0)
        assert not unloading.done()
        await blocker.execute("ROLLBACK")
    finally:
        await blocker.close()
    assert [reply.text for reply in await asked] == ["There are no sandboxes."]
    await unloading
