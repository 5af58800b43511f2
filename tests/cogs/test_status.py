"""The status: which sandbox it is of, its parts, refreshing it, and keeping it up to date."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any, cast

import discord
import pytest
import simcord
from nats.js.api import ConsumerConfig
from structlog.testing import capture_logs

from sandbox_cogs.sandbox._watch import (
    EVERY_SECONDS,
    MOST_AT_ONCE,
    WATCH_SECONDS,
    LiveMessage,
    Watches,
    watches_of,
)
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.subjects import sandbox_dead_letter
from tests.event_path.conftest import count

from .conftest import COOKS_GUILD, Press, Scene, embed_of, labels_of, pass_time, text_of, until

LATER = datetime(2030, 1, 1, tzinfo=UTC)


async def opened(scene: Scene, **options: Any) -> simcord.ResponseMessage:
    result = await scene.alice.slash(scene.channel, "sandbox status", **options)
    embed_of(result)
    assert result.response is not None
    return result.response


async def watched(scene: Scene, name: str) -> simcord.ResponseMessage:
    message = await opened(scene, name=name, watch=True)
    # Its updates begin after it is shown.
    await until(lambda: watches_of(cast("Any", scene.env.bot)).ends_at(message.id) is not None)
    return message


async def made(scene: Scene, *names: str) -> None:
    for name in names:
        await scene.alice.slash(scene.channel, "sandbox create", name=name)


def edits(scene: Scene) -> int:
    return sum(request.method == "PATCH" for request in scene.env.http_requests)


def watching(scene: Scene) -> int:
    return len(watches_of(cast("Any", scene.env.bot)))


async def test_a_sandbox_without_its_mapping_is_degraded(scene: Scene) -> None:
    """What `orphans` finds, `status` shows: the server was registered, and nobody unregistered it."""
    await scene.alice.slash(scene.channel, "sandbox create", name="torn", guild=str(COOKS_GUILD))
    await scene.core.pool.execute("DELETE FROM sandbox_guild_mapping")
    await until(lambda: not scene.core.routes.statistics()["guilds"])
    embed = (await opened(scene, name="torn")).embeds[0]
    parts = {field.name: field.value or "" for field in embed.fields}
    assert embed.description == "🟠 running, degraded"
    assert f"0 of 1 server routed here; the mapping of {COOKS_GUILD} is missing" in parts["🟠 Routing"]
    # Unregistered, it would be as it should be.
    await scene.alice.slash(scene.channel, "sandbox register-guild", name="torn", guild=str(COOKS_GUILD))
    assert "1 of 1 server routed here" in text_of((await opened(scene, name="torn")).embeds[0])
    await scene.alice.slash(scene.channel, "sandbox unregister-guild", guild=str(COOKS_GUILD))
    embed = (await opened(scene, name="torn")).embeds[0]
    assert embed.description == "🟢 running, healthy"


async def test_the_parts_show_their_figures(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="busy", guild=str(COOKS_GUILD))
    sandbox = await scene.core.manager.get("busy")
    await scene.core.pool.execute(
        f"INSERT INTO {sandbox.schema_name}.communities (guild_id, name) VALUES ($1, 'x')",
        str(COOKS_GUILD),
    )
    await scene.core.redis.set(f"sandbox:{sandbox.id}:xp", "1")
    await scene.core.js.publish(f"sandbox.{sandbox.id}.events.MESSAGE_CREATE", b"{}")
    for _ in range(3):
        count(scene.core.router.activity, str(COOKS_GUILD), str(sandbox.id))
    embed = (await opened(scene, name="busy")).embeds[0]
    parts = {field.name: field.value or "" for field in embed.fields}
    assert "3 tables, 1 row" in parts["🟢 PostgreSQL"]
    assert "1 key" in parts["🟢 Redis"]
    assert " ms" in parts["🟢 Redis"]
    assert re.search(r"1 event stored, the last one \d+ s old", parts["🟢 NATS"])
    assert "1 of 1 server routed here" in parts["🟢 Routing"]
    assert parts["In the last minute"] == "3 events received"
    assert parts["Backlog"] == "Consumers: none\nDead letters: 0"
    assert embed.timestamp is not None
    # What is stored stays, whoever has read it: each consumer has a backlog of its own.
    stream = scene.core.settings.stream_names.sandbox_stream(sandbox.id)
    await scene.core.js.add_consumer(stream, ConsumerConfig(durable_name=f"{sandbox.id}-worker"))
    await scene.core.js.publish(sandbox_dead_letter(sandbox.id, "UNHANDLED"), b"{}")
    embed = (await opened(scene, name="busy")).embeds[0]
    parts = {field.name: field.value or "" for field in embed.fields}
    assert parts["Backlog"] == "Consumer `worker`: 2 behind\nDead letters: 1"
    assert "1 event stored" in parts["🟢 NATS"]


async def test_refresh_shows_how_it_is_now_in_the_same_message(scene: Scene) -> None:
    await made(scene, "mine")
    message = await opened(scene, name="mine")
    assert labels_of(message) == ["Refresh"]
    await scene.alice.slash(scene.channel, "sandbox register-guild", name="mine", guild=str(COOKS_GUILD))
    result = await scene.alice.click(message, label="Refresh")
    assert result.followups == []
    assert f"**Cooks** (`{COOKS_GUILD}`)" in text_of(message.embeds[0])
    assert labels_of(message) == ["Refresh"]


async def test_refresh_of_what_is_gone_says_so(scene: Scene) -> None:
    await made(scene, "mine")
    message = await opened(scene, name="mine")
    question = await scene.alice.slash(scene.channel, "sandbox destroy", name="mine")
    assert question.response is not None
    await scene.alice.click(question.response, label="Destroy it")
    await scene.alice.click(message, label="Refresh")
    assert message.embeds[0].footer.text == "SANDBOX_004"
    assert labels_of(message) == []


async def test_refresh_stays_while_a_server_is_away(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await made(scene, "mine")
    message = await opened(scene, name="mine")
    with monkeypatch.context() as away:
        away.setattr(scene.core.manager, "health", _away)
        await scene.alice.click(message, label="Refresh")
    assert message.embeds[0].footer.text == "SANDBOX_012"
    await scene.alice.click(message, label="Refresh")
    assert message.embeds[0].title == "Sandbox mine"


async def _away(_reference: str) -> None:
    raise DependencyUnavailable("PostgreSQL", "connection refused")


async def test_with_several_sandboxes_a_menu_asks_which(scene: Scene, simcord_bot: Any) -> None:
    await made(scene, "first", "second")
    message = await opened(scene)
    assert message.embeds[0].title == "Which sandbox?"
    (menu,) = message.components[0]["components"]
    assert [option["label"] for option in menu["options"]] == ["second", "first"]
    await simcord_bot.reload_extension("sandbox_cogs.sandbox")
    sandbox = await scene.core.manager.get("first")
    await scene.alice.select(message, [str(sandbox.id)])
    assert message.embeds[0].title == "Sandbox first"
    assert labels_of(message) == ["Refresh"]


async def test_a_watched_message_is_kept_up_to_date_until_its_time_is_over(scene: Scene) -> None:
    await made(scene, "mine")
    message = await watched(scene, "mine")
    assert "This message is kept up to date" in text_of(message.embeds[0])
    assert labels_of(message) == ["Refresh", "Stop watching"]
    await scene.alice.slash(scene.channel, "sandbox register-guild", name="mine", guild=str(COOKS_GUILD))
    assert "Cooks" not in text_of(message.embeds[0])
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: "Cooks" in text_of(message.embeds[0]))
    await scene.alice.click(message, label="Refresh")
    assert labels_of(message) == ["Refresh", "Stop watching"]

    await pass_time(scene, WATCH_SECONDS - EVERY_SECONDS)
    await until(lambda: watching(scene) == 0)
    assert "kept up to date" not in text_of(message.embeds[0])
    assert labels_of(message) == ["Refresh"]
    before = edits(scene)
    await pass_time(scene, 60)
    assert edits(scene) == before


async def test_a_menu_can_lead_to_a_watched_message(scene: Scene) -> None:
    await made(scene, "first", "second")
    message = await opened(scene, watch=True)
    sandbox = await scene.core.manager.get("first")
    await scene.alice.select(message, [str(sandbox.id)])
    assert labels_of(message) == ["Refresh", "Stop watching"]
    before = edits(scene)
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: edits(scene) > before)
    assert edits(scene) == before + 1


async def test_watching_can_be_stopped(scene: Scene) -> None:
    await made(scene, "mine")
    message = await watched(scene, "mine")
    await scene.alice.click(message, label="Stop watching")
    assert labels_of(message) == ["Refresh"]
    before = edits(scene)
    await pass_time(scene, EVERY_SECONDS)
    assert edits(scene) == before


async def test_a_person_watches_one_message(scene: Scene) -> None:
    await made(scene, "mine")
    for _ in range(2):
        await watched(scene, "mine")
    assert watching(scene) == 1
    before = edits(scene)
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: edits(scene) > before)
    assert edits(scene) == before + 1


async def test_watching_ends_with_the_sandbox(scene: Scene) -> None:
    await made(scene, "mine")
    message = await watched(scene, "mine")
    question = await scene.alice.slash(scene.channel, "sandbox destroy", name="mine")
    assert question.response is not None
    await scene.alice.click(question.response, label="Destroy it")
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: watching(scene) == 0)
    assert message.embeds[0].footer.text == "SANDBOX_004"
    assert labels_of(message) == []


async def test_watching_goes_on_through_an_outage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await made(scene, "mine")
    message = await watched(scene, "mine")
    with monkeypatch.context() as away:
        away.setattr(scene.core.manager, "health", _away)
        await pass_time(scene, EVERY_SECONDS)
        await until(lambda: message.embeds[0].footer.text == "SANDBOX_012")
    assert labels_of(message) == ["Refresh", "Stop watching"]
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: message.embeds[0].title == "Sandbox mine")


async def test_watching_ends_when_the_message_is_gone(scene: Scene) -> None:
    await made(scene, "mine")
    await watched(scene, "mine")
    scene.env.inject_error("PATCH", "/webhooks/*", status=404, code=10008, times=None)
    with capture_logs() as logs:
        await pass_time(scene, EVERY_SECONDS)
        await until(lambda: watching(scene) == 0)
    assert [entry["event"] for entry in logs] == ["watch_ended"]


async def test_a_fault_while_watching_is_logged_and_raises_nowhere(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fault(_reference: str) -> None:
        raise RuntimeError

    await made(scene, "mine")
    await watched(scene, "mine")
    monkeypatch.setattr(scene.core.manager, "health", fault)
    with capture_logs() as logs:
        await pass_time(scene, EVERY_SECONDS)
        await until(lambda: watching(scene) == 0)
    assert [entry["event"] for entry in logs] == ["watch_failed"]
    assert scene.env.errors == []


async def test_unloading_ends_all_watching(scene: Scene, simcord_bot: Any) -> None:
    await made(scene, "mine")
    await watched(scene, "mine")
    await simcord_bot.reload_extension("sandbox_cogs.sandbox")
    before = edits(scene)
    await pass_time(scene, EVERY_SECONDS)
    assert edits(scene) == before
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("sandbox-watch")]


async def test_more_messages_than_allowed_are_shown_but_not_watched(scene: Scene) -> None:
    async def nothing() -> bool:
        return True

    async def end() -> None:
        return None

    await made(scene, "mine")
    watches = watches_of(cast("Any", scene.env.bot))
    for number in range(MOST_AT_ONCE):
        watches.start(number, number, LiveMessage(LATER, nothing, end))
    message = await opened(scene, name="mine", watch=True)
    assert "this one is not" in text_of(message.embeds[0])
    assert labels_of(message) == ["Refresh"]
    await watches.close()
    assert len(watches) == 0


async def test_a_lost_connection_ends_the_watching() -> None:
    async def lost() -> bool:
        raise ConnectionResetError

    async def end() -> None:
        raise AssertionError("its time is not over")

    watches = Watches(every=0)
    with capture_logs() as logs:
        watches.start(1, 1, LiveMessage(LATER, lost, end))
        async with asyncio.timeout(60):
            while len(watches):
                await asyncio.sleep(0)
    assert [entry["event"] for entry in logs] == ["watch_ended"]


async def test_timestamps_say_when_the_watching_ends(scene: Scene) -> None:
    await made(scene, "mine")
    message = await watched(scene, "mine")
    seconds = int((message.embeds[0].description or "").split("<t:")[1].split(":")[0])
    shown_at = message.embeds[0].timestamp
    assert shown_at is not None
    assert 0 <= seconds - shown_at.timestamp() <= WATCH_SECONDS


async def test_names_of_servers_are_for_their_members_and_the_owner(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine", guild=str(COOKS_GUILD))
    dev = scene.alice.guild
    manage = dev.create_role("managers", permissions=discord.Permissions(manage_guild=True))
    stranger = dev.add_member(scene.env.create_user("stranger"), roles=[manage])
    assert "Cooks" in text_of(embed_of(await scene.alice.slash(scene.channel, "sandbox status", name="mine")))
    shown = text_of(embed_of(await stranger.slash(scene.channel, "sandbox status", name="mine")))
    assert "Cooks" not in shown
    assert str(COOKS_GUILD) in shown


async def test_a_menus_press_without_a_choice_does_nothing(scene: Scene) -> None:
    await made(scene, "one", "two")
    menu = await opened(scene)
    press = Press(scene, scene.alice, menu, custom_id="sandbox:pick:once", chosen=[])
    press.send()
    await scene.env.settle()
    assert press.result.acknowledged
    shown = press.result.response
    assert shown is not None
    assert shown.embeds == menu.embeds
