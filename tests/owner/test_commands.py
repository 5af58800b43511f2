"""Every command the owner has, and what it answers."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_cogs.owner._answer import MESSAGE_LIMIT
from sandbox_core.errors import SandboxNotFound
from sandbox_core.events import OWNER_COMMANDS
from sandbox_core.manager import utc_now
from sandbox_core.models import Actor, SandboxStatus

from .conftest import ALICE, COOKS, Scene

STRANGER = "5e8b2d10-1c2d-4e3f-8a9b-0c1d2e3f4a5b"
"""The id of a sandbox that this database never had."""


async def test_help_names_every_command(scene: Scene) -> None:
    text = await scene.answer("help")
    assert {line.split()[0] for line in text.split("```")[1].split("\n")[1:-1]} == set(OWNER_COMMANDS)


@pytest.mark.parametrize("word", OWNER_COMMANDS)
async def test_every_command_answers_exactly_once(scene: Scene, word: str) -> None:
    for text in (word, word.upper()):
        (reply,) = await scene.dm(text)
        assert "Something went wrong" not in reply.text


async def test_list(scene: Scene) -> None:
    assert await scene.answer("list") == "There are no sandboxes."
    sandbox = await scene.sandbox("my-box", COOKS)
    gone = await scene.sandbox("gone")
    await scene.core.manager.destroy(ALICE, str(gone.id))
    head, _, titles, row, end = (await scene.answer("list")).splitlines()
    assert (head, titles.split()[:4], end) == ("**1 sandbox**", ["ID", "NAME", "OWNER", "STATUS"], "```")
    expires = f"{sandbox.expires_at:%Y-%m-%d %H:%M}"
    assert row.split(maxsplit=5) == [sandbox.short_id, "my-box", "alice", "running", "1", expires]


async def test_a_long_list_comes_as_a_file(scene: Scene) -> None:
    for number in range(30):
        await scene.core.manager.create(Actor(str(number), f"somebody-{number}"))
    (reply,) = await scene.dm("list")
    assert reply.text == "**30 sandboxes**\nThe attached file has all of it."
    assert reply.filename == "sandboxes.txt"
    assert reply.file is not None
    assert len(reply.file) > MESSAGE_LIMIT
    assert len(reply.file.splitlines()) == 31
    assert "```" not in reply.file


async def test_status_of_one(scene: Scene) -> None:
    sandbox = await scene.sandbox("my-box", COOKS)
    text = await scene.answer("status my-box")
    assert "**my-box**: 🟢 running, healthy" in text
    for fact in (
        str(sandbox.id),
        sandbox.schema_name,
        ALICE.id,
        COOKS,
        "alice",
        "Events in the last minute: 0",
    ):
        assert fact in text
    assert f"<t:{sandbox.expires_at.timestamp() // 1:.0f}:R>" in text
    for store in ("PostgreSQL", "Redis", "NATS", "Routing"):
        assert re.search(rf"🟢 {store}: healthy, \d+ ms; ", text)
    assert await scene.answer(f"status {sandbox.short_id}")
    await scene.core.pool.execute(f'DROP SCHEMA "{sandbox.schema_name}" CASCADE')
    assert "**my-box**: 🟠 running, degraded" in await scene.answer("status my-box")


async def test_status_past_the_expiry_and_of_one_that_is_being_destroyed(scene: Scene) -> None:
    await scene.sandbox("my-box")
    await scene.let_expire("my-box")
    assert "expired; its servers" in await scene.answer("status my-box")
    await scene.core.pool.execute("UPDATE sandboxes SET status = 'destroying'")
    assert "🟠 destroying" in await scene.answer("status my-box")


async def test_status_of_the_whole(scene: Scene) -> None:
    await scene.sandbox("my-box", COOKS)
    await scene.sandbox("second")
    await scene.core.pool.execute("UPDATE sandboxes SET status = 'destroying' WHERE name = 'second'")
    assert (await scene.answer("status")).splitlines() == [
        "🟢 Sandboxes: 1 running, 1 destroying",
        "🟢 The bot is in 1 server; 1 registered with sandboxes",
        "🟢 Events on their way: 0",
    ]


async def test_destroy_asks_and_then_does_it(scene: Scene) -> None:
    sandbox = await scene.sandbox("my-box", COOKS)
    question = await scene.answer("destroy my-box")
    assert question.startswith("**Destroy `my-box`?** It is running and belongs to alice.")
    for fact in (sandbox.schema_name, f"sandbox:{sandbox.id}:", f"sandbox.{sandbox.id}.>", COOKS):
        assert f"`{fact}`" in question
    assert question.endswith("send `destroy my-box yes` within 10 minutes.")
    assert (await scene.core.manager.get("my-box")).status is SandboxStatus.RUNNING
    assert scene.typed

    assert "**my-box** is destroyed" in await scene.answer("Destroy my-box YES")
    with pytest.raises(SandboxNotFound):
        await scene.core.manager.get("my-box")
    assert await scene.core.manager.for_guild(COOKS) is None
    entries = await scene.core.manager.audit(str(sandbox.id))
    assert entries[-1].actor == str(scene.owner.id)


async def test_a_yes_without_its_question_only_asks(scene: Scene) -> None:
    await scene.sandbox("my-box")
    await scene.sandbox("other-box")
    asks = "**Destroy `my-box`?**"
    assert asks in await scene.answer("destroy my-box yes")
    assert asks in await scene.answer("destroy my-box no")
    await scene.answer("destroy other-box")
    assert asks in await scene.answer("destroy my-box yes")
    assert len(await scene.core.manager.list()) == 2


async def test_a_yes_for_another_sandbox_of_the_same_name_only_asks(scene: Scene) -> None:
    first = await scene.sandbox("my-box")
    await scene.answer("destroy my-box")
    await scene.core.manager.destroy(ALICE, str(first.id))
    await scene.sandbox("my-box")
    assert "**Destroy `my-box`?**" in await scene.answer("destroy my-box yes")


async def test_an_old_question_is_asked_again(scene: Scene) -> None:
    await scene.sandbox("my-box")
    await scene.answer("destroy my-box")
    cog: Any = scene.bot.get_cog("OwnerMessages")
    cog._commands._clock = lambda: utc_now() + timedelta(minutes=11)
    assert "**Destroy `my-box`?**" in await scene.answer("destroy my-box yes")
    assert "is destroyed" in await scene.answer("destroy my-box yes")


async def test_extend(scene: Scene) -> None:
    before = await scene.sandbox("my-box")
    text = await scene.answer("extend my-box 1h 30m")
    after = await scene.core.manager.get("my-box")
    assert after.expires_at == before.expires_at + timedelta(hours=1, minutes=30)
    assert f"**my-box** now lives until <t:{after.expires_at.timestamp() // 1:.0f}:f>" in text
    assert "less than you asked for" in await scene.answer("extend my-box 168")
    assert (await scene.core.manager.get("my-box")).expires_at == before.created_at + timedelta(hours=168)


async def test_audit_also_of_a_destroyed_one(scene: Scene) -> None:
    sandbox = await scene.sandbox("my-box", COOKS)
    await scene.core.manager.destroy(ALICE, "my-box")
    for reference in ("my-box", str(sandbox.id)):
        (reply,) = await scene.dm(f"audit {reference}")
        assert reply.text.startswith(f"**Audit log of `{reference}`**: ")
        table = reply.file or reply.text
        events = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (\w+)", table, re.MULTILINE)
        assert events[0] == "sandbox_created"
        assert events[-1] == "sandbox_destroyed"
        assert f"guild_id={COOKS}" in table
        assert ALICE.id in table


async def test_routes(scene: Scene) -> None:
    assert (await scene.answer("routes")).startswith("**Every server's events go to production**\nLook-ups")
    guild_id = str(scene.channel.guild.id)
    sandbox = await scene.sandbox("my-box", COOKS, guild_id)
    head, lookups, _, _, *rows, _ = (await scene.answer("routes")).splitlines()
    assert head == "**2 servers send their events to sandboxes**"
    assert "guilds 2" in lookups
    until = f"{sandbox.expires_at:%Y-%m-%d %H:%M}"
    assert [re.split(r"\s{2,}", row) for row in rows] == sorted(
        [[COOKS, "?", "my-box", until], [guild_id, scene.channel.guild.name, "my-box", until]]
    )


async def test_health(scene: Scene, servers: EmbeddedServers) -> None:
    # dpytest's bot has no gateway.
    lines = (await scene.answer("health")).splitlines()
    assert lines[:2] == ["**The bot's servers: healthy**", "🔴 Discord: not connected"]
    for line, server in zip(lines[2:5], ("PostgreSQL", "Redis", "NATS"), strict=True):
        assert re.fullmatch(rf"🟢 {server}: answers, \d+\.\d ms", line)
    assert lines[5:] == ["🟢 Routing: current"]
    await servers.valkey.stop()
    try:
        lines = (await scene.answer("health")).splitlines()
    finally:
        await servers.valkey.start()
    assert lines[0] == "**The bot's servers: degraded**"
    assert lines[3].startswith("🔴 Redis: ")
    assert "unavailable" not in lines[3]


async def test_sync_in_a_bot_without_the_slash_commands(scene: Scene) -> None:
    assert "`sandbox_cogs.sandbox` is not among this bot's extensions" in await scene.answer("sync")


async def test_sync_without_a_dev_server(scene: Scene) -> None:
    await scene.bot.load_extension("sandbox_cogs.sandbox")
    assert "`DISCORD_DEV_GUILD_IDS`" in await scene.answer("sync")
    await scene.bot.unload_extension("sandbox_cogs.sandbox")


async def test_cleanup(scene: Scene) -> None:
    assert await scene.answer("cleanup") == "No sandbox has expired: nothing to remove."
    await scene.sandbox("my-box")
    await scene.sandbox("over-box", COOKS)
    await scene.let_expire("over-box")
    assert await scene.answer("cleanup") == "🟢 Removed 1 sandbox: `over-box`"
    assert [sandbox.name for sandbox in await scene.core.manager.list()] == ["my-box"]


async def test_cleanup_removes_what_destroyed_sandboxes_left_and_spares_the_unknown(scene: Scene) -> None:
    gone = await scene.sandbox("gone")
    await scene.core.manager.destroy(ALICE, "gone")
    for owner in (gone.id, STRANGER):
        await scene.core.redis.set(f"sandbox:{owner}:key", "1")
    assert (await scene.answer("cleanup")).splitlines() == [
        "🟢 Deleted 1 orphan",
        "🟠 1 orphan is unknown here and left alone; `orphans` shows what they are",
    ]
    assert await scene.core.redis.keys("sandbox:*:key") == [f"sandbox:{STRANGER}:key"]


async def test_cleanup_tells_what_it_could_not_remove(scene: Scene, servers: EmbeddedServers) -> None:
    await scene.sandbox("over-box")
    await scene.let_expire("over-box")
    await servers.valkey.stop()
    try:
        text = await scene.answer("cleanup")
    finally:
        await servers.valkey.start()
    failed, unreadable = text.splitlines()
    assert re.match(
        r"🔴 `over-box` is not removed: “.+” failed \(.+\), attempt 1; the next one <t:\d+:R>$", failed
    )
    assert unreadable.startswith("🔴 Redis can't be read: ")


async def test_orphans_are_shown_and_then_deleted(scene: Scene, servers: EmbeddedServers) -> None:
    assert await scene.answer("orphans") == "There are no orphans."
    live = await scene.sandbox("my-box")
    gone = await scene.sandbox("gone")
    await scene.core.manager.destroy(ALICE, "gone")
    for owner in (live.id, gone.id, STRANGER):
        await scene.core.redis.set(f"sandbox:{owner}:key", "1")
    text = await scene.answer("orphans")
    assert text.startswith("**2 orphans**; `orphans fix` deletes what destroyed sandboxes left.\n")
    assert "`orphans fix unknown` deletes them too" in text
    assert re.search(rf"Redis +sandbox:{gone.id}:\* +a destroyed sandbox's", text)
    assert re.search(rf"Redis +sandbox:{STRANGER}:\* +unknown here", text)
    for refused in ("orphans all", "orphans fix all"):
        assert (await scene.answer(refused)).endswith("-# SANDBOX_007")
    assert await scene.core.redis.exists(f"sandbox:{gone.id}:key")

    spared, deleted, *_ = (await scene.answer("orphans FIX")).splitlines()
    assert spared.startswith("🟠 1 orphan is unknown here and left alone")
    assert deleted == "Deleted 1 orphan."
    left = {f"sandbox:{owner}:key" for owner in (live.id, STRANGER)}
    assert set(await scene.core.redis.keys("sandbox:*:key")) == left
    assert (await scene.answer("orphans fix Unknown")).startswith("Deleted 1 orphan.")
    assert await scene.core.redis.keys("sandbox:*:key") == [f"sandbox:{live.id}:key"]
    assert await scene.answer("orphans fix") == "Deleted 0 orphans."
    await scene.core.pool.execute(f'DROP SCHEMA "{live.schema_name}" CASCADE')
    await servers.valkey.stop()
    try:
        unreadable, damaged, rest = (await scene.answer("orphans")).splitlines()
    finally:
        await servers.valkey.start()
    assert unreadable.startswith("🔴 Redis can't be read: ")
    assert damaged == f"🟠 `my-box` runs without the schema {live.schema_name}"
    assert rest == "The other stores have no orphans."
