"""What arrives in direct messages, and what their buttons do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import aiohttp
import discord
import pytest
from structlog.testing import capture_logs

from sandbox_cogs.upkeep import _render
from sandbox_core.cleanup import Notice, NoticeKind
from sandbox_core.errors import CleanupFailed, DependencyUnavailable, SandboxNotFound
from sandbox_core.models import SandboxStatus
from sandbox_core.postgres import connected, sandboxes, storage
from sandbox_core.stored import MIB, Level, StorageLimit, Stored

from .conftest import Scene

NINE = timedelta(minutes=9)


def labels(message: discord.Message) -> list[str | None]:
    return [
        item.label
        for row in message.components
        if isinstance(row, discord.ActionRow)
        for item in row.children
        if isinstance(item, discord.Button)
    ]


async def test_before_it_expires(scene: Scene) -> None:
    sandbox = await scene.sandbox("mine")
    await scene.upkeep.tell()
    assert scene.messages(scene.alice) == []
    await scene.ends_in(sandbox, NINE)
    await scene.upkeep.tell()
    await scene.upkeep.tell()
    (message,) = scene.messages(scene.alice)
    assert message.embeds[0].title == "Sandbox mine expires soon"
    assert labels(message) == ["Extend", "Destroy"]
    assert scene.messages(scene.root) == []


async def test_its_extend_button_opens_the_form(scene: Scene) -> None:
    sandbox = await scene.sandbox("mine")
    await scene.ends_in(sandbox, NINE)
    await scene.upkeep.tell()
    (message,) = scene.messages(scene.alice)
    before = (await scene.core.manager.get("mine")).expires_at
    form = await scene.alice.click(message, label="Extend")
    await scene.alice.submit_modal(form, {"sandbox:duration": "2h"})
    assert (await scene.core.manager.get("mine")).expires_at == before + timedelta(hours=2)


async def test_its_destroy_button_asks_first(scene: Scene) -> None:
    sandbox = await scene.sandbox("mine")
    await scene.ends_in(sandbox, NINE)
    await scene.upkeep.tell()
    (message,) = scene.messages(scene.alice)
    question = await scene.alice.click(message, label="Destroy")
    assert (await scene.core.manager.get("mine")).status is SandboxStatus.RUNNING
    assert question.response is not None
    await scene.alice.click(question.response, label="Destroy it")
    with pytest.raises(SandboxNotFound):
        await scene.core.manager.get("mine")
    # Who destroyed it knows.
    await scene.upkeep.tell()
    titles = [embed.title or "" for message in scene.messages(scene.alice) for embed in message.embeds]
    assert not any("gone" in title for title in titles)


async def test_when_it_is_gone(scene: Scene) -> None:
    sandbox = await scene.sandbox("mine")
    await scene.ends_in(sandbox, -timedelta(seconds=1))
    await scene.upkeep.remove_due()
    await scene.upkeep.tell()
    await scene.upkeep.tell()
    (message,) = scene.messages(scene.alice)
    assert message.embeds[0].title == "Sandbox mine is gone"
    assert "It expired" in (message.embeds[0].description or "")
    assert labels(message) == []


async def test_a_removal_that_keeps_failing_reaches_the_bots_owner_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await scene.sandbox("mine")
    await scene.ends_in(sandbox, -timedelta(seconds=1))

    async def away(*_: object) -> int:
        raise DependencyUnavailable("Redis", "it can't be reached")

    monkeypatch.setattr("sandbox_core.namespaces.redis.RedisNamespace.delete_keys", away)
    for _ in range(5):
        with pytest.raises(CleanupFailed):
            await scene.core.cleanup.cleanup_sandbox(sandbox.id)
        await scene.upkeep.tell()
    (message,) = scene.messages(scene.root)
    assert message.embeds[0].title == "Sandbox mine can't be removed"
    assert {field.name: field.value for field in message.embeds[0].fields}["Step"] == "Redis"
    assert scene.messages(scene.alice) == []


async def test_closed_direct_messages_are_not_an_error(scene: Scene) -> None:
    # Discord refuses messages from a bot to a bot with the same code 50007 as for closed ones.
    closed = scene.env.create_user("closed", bot=True)
    sandbox = await scene.sandbox("mine", str(closed.id))
    await scene.ends_in(sandbox, NINE)
    with capture_logs() as logs:
        await scene.upkeep.tell()
        await scene.upkeep.tell()
    assert [entry["event"] for entry in logs] == ["notice_refused"]


async def test_an_owner_who_is_no_discord_user_is_not_written_to(scene: Scene) -> None:
    sandbox = await scene.sandbox("mine", "ci")
    await scene.ends_in(sandbox, NINE)
    with capture_logs() as logs:
        await scene.upkeep.tell()
    assert logs == []


async def test_a_message_that_never_left_is_sent_later_and_any_other_is_not(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        await scene.ends_in(await scene.sandbox(name), NINE)

    def fail_with(error: Exception) -> None:
        async def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(discord.User, "send", fail)

    key: object = aiohttp.client_reqrep.ConnectionKey("x", 443, True, None, None, None, None)
    fail_with(aiohttp.ClientConnectorError(key, OSError("refused")))  # type: ignore[arg-type]
    await scene.upkeep.tell()
    assert len([notice async for notice in scene.core.notices.take()]) == 2
    for name in ("three", "four"):
        await scene.ends_in(await scene.sandbox(name, str(scene.root.id)), NINE)
    monkeypatch.setattr("sandbox_cogs._requests.PAUSES", (0.01,))
    fail_with(aiohttp.ServerDisconnectedError())
    await scene.upkeep.tell()
    assert [notice async for notice in scene.core.notices.take()] == []


async def test_a_failure_that_nobody_foresaw_costs_one_notice_and_not_the_rest(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        await scene.ends_in(await scene.sandbox(name), NINE)

    def fault(*_: object) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as broken:
        broken.setattr("sandbox_cogs.upkeep._render.notice", fault)
        with pytest.raises(RuntimeError):
            await scene.upkeep.tell()
    await scene.upkeep.tell()
    assert len(scene.messages(scene.alice)) == 2


@pytest.mark.parametrize("extensions", [()])
async def test_without_the_commands_there_are_no_buttons_nobody_would_answer(scene: Scene) -> None:
    sandbox = await scene.sandbox("mine")
    await scene.ends_in(sandbox, NINE)
    await scene.upkeep.tell()
    (message,) = scene.messages(scene.alice)
    assert labels(message) == []


async def test_every_kind_fits_discords_limits(scene: Scene) -> None:
    from sandbox_cogs.upkeep import _render
    from sandbox_core.postgres.cleanup import Failure

    guild_ids = tuple(str(number) for number in range(10**17, 10**17 + 50))
    sandbox = (await scene.sandbox("a" * 63)).evolve(guild_ids=guild_ids)
    failure = Failure("x" * 500, "`@everyone`\n" * 500, 10**6, sandbox.expires_at, sandbox)
    for kind in NoticeKind:
        embed = _render.notice(Notice(kind, sandbox, sandbox.expires_at, kind.value, failure))
        assert len(embed) <= 6000
        assert len(embed.title or "") <= 256
        assert all(len(field.value or "") <= 1024 for field in embed.fields)
        assert "@everyone" not in str(embed.to_dict())


async def stores(scene: Scene, sandbox_id: UUID, size: int) -> None:
    """As measured now."""
    limit, at = scene.core.measuring.limits["Redis"], datetime.now(UTC)
    async with connected(scene.core.pool) as connection:
        sandbox = await sandboxes.by_id(connection, sandbox_id)
        assert sandbox is not None
        before = sandbox.stored("Redis") or Stored("Redis", 0, 0, at)
        await storage.record(connection, [(sandbox_id, before.measured(size, 12_345, at, limit))])


async def test_when_it_stores_too_much_and_when_it_has_room_again(scene: Scene) -> None:
    sandbox = await scene.sandbox("mine")
    for size in (10, 50, 52, 49, 53, 64, 62, 66, 10):
        await stores(scene, sandbox.id, size * MIB)
        await scene.upkeep.tell()
        await scene.upkeep.tell()
    said = [
        (message.embeds[0].title, message.embeds[0].description) for message in scene.messages(scene.alice)
    ]
    assert said == [
        (
            "Sandbox mine is nearly full",
            "In Redis it stores 52 of 64 MiB, and 12,345 of 500,000 keys. Nothing is refused yet.",
        ),
        (
            "Sandbox mine is full",
            (
                "In Redis it stores 64 of 64 MiB, and 12,345 of 500,000 keys. Until it stores less than "
                "90 % of that, you can't create another sandbox."
            ),
        ),
        ("Sandbox mine has room again", "In Redis it stores 10 of 64 MiB, and 12,345 of 500,000 keys."),
    ]
    assert scene.messages(scene.root) == []


async def test_what_a_full_one_with_a_login_of_its_own_may_do(scene: Scene) -> None:
    sandbox = await scene.sandbox("mine")
    about, stored = datetime.now(UTC), Stored("PostgreSQL", 300 * MIB, 4, datetime.now(UTC), Level.FULL)
    limit = StorageLimit(256 * MIB)
    for each, words in (
        (stored, "its new sessions there are read-only. To delete something, begin with `SET default_trans"),
        (replace(stored, store="Redis"), "its login may read and delete there, but not write."),
    ):
        notice = Notice(NoticeKind.STORAGE, sandbox.evolve(generation=1), about, "", stored=each, limit=limit)
        embed = _render.notice(notice)
        assert words in (embed.description or "")
        assert (embed.footer.text or "").startswith("/sandbox status name:mine")


async def test_a_loop_measures_and_the_gauges_say_so(scene: Scene) -> None:
    sandbox = await scene.sandbox("mine")
    await scene.core.redis.set(f"sandbox:{sandbox.id}:a", "x" * 100_000)
    for store in ("PostgreSQL", "Redis"):
        assert await scene.upkeep.measure(store) >= 0.25
    await scene.upkeep.count()
    value = scene.core.metrics.registry.get_sample_value
    labels = {"store": "Redis", "sandbox": sandbox.short_id}
    assert 100_000 < (value("sandbox_storage_bytes", labels) or 0) < 200_000
    assert value("sandbox_storage_sandboxes", {"store": "PostgreSQL", "level": "room"}) == 1
