"""Before a server in use, or a protected one, leaves production, its caller is told and asked."""

from __future__ import annotations

import time

from sandbox_core.redis.last_events import LastEventRecord

from .conftest import (
    COOKS_GUILD,
    DEV_GUILD,
    MUSIC_GUILD,
    PROTECTED_GUILD,
    Press,
    Scene,
    Stopwatch,
    button_id,
    code_of,
    embed_of,
    labels_of,
    production_events,
    text_of,
)


async def test_a_server_in_use_is_asked_about_with_its_traffic(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    production_events(scene.core, COOKS_GUILD, 42)
    before = await scene.stored()
    result = await scene.alice.slash(scene.channel, "sandbox register-guild", guild=str(COOKS_GUILD))
    text = text_of(embed_of(result))
    assert f"In the last minute about 42 events of **Cooks** (`{COOKS_GUILD}`) went to production." in text
    assert "production gets none of its events" in text
    assert "protected" not in text
    assert await scene.stored() == before

    assert result.response is not None
    assert len(button_id(result.response, "Register it")) <= 100
    await scene.alice.click(result.response, label="Register it")
    assert result.response.embeds[0].title == "Server registered"
    assert (await scene.core.manager.get("mine")).guild_ids == (str(COOKS_GUILD),)


async def test_saying_no_leaves_it_to_production(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    production_events(scene.core, DEV_GUILD, 1)
    before = await scene.stored()
    result = await scene.alice.slash(scene.channel, "sandbox register-guild")
    assert "about 1 event of" in text_of(embed_of(result))
    assert result.response is not None
    await scene.alice.click(result.response, label="Leave it to production")
    assert result.response.embeds[0].title == "The server was not registered"
    assert await scene.stored() == before


async def test_the_button_asks_too(scene: Scene) -> None:
    made = await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    production_events(scene.core, DEV_GUILD, 5)
    assert made.response is not None
    result = await scene.alice.click(made.response, label="Register this server")
    assert embed_of(result).title == "Take this server away from production, for mine?"
    assert (await scene.stored())["guilds"] == []


async def test_a_quiet_server_and_a_sandboxed_one_are_not_asked_about(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    quiet = await scene.alice.slash(scene.channel, "sandbox register-guild")
    assert embed_of(quiet).title == "Server registered"
    # Its last minute still has events from before; production has none of them any more.
    production_events(scene.core, DEV_GUILD, 5)
    again = await scene.alice.slash(scene.channel, "sandbox register-guild")
    assert embed_of(again).title == "Server registered already"


async def test_an_event_of_hours_ago_in_another_process_is_asked_about(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    await LastEventRecord(scene.core.redis).write(
        {str(COOKS_GUILD): time.time() - 5 * 3600 - 60}, time.time()
    )
    before = await scene.stored()
    result = await scene.alice.slash(scene.channel, "sandbox register-guild", guild=str(COOKS_GUILD))
    text = text_of(embed_of(result))
    assert f"The last event of **Cooks** (`{COOKS_GUILD}`) went to production about 5 hours ago." in text
    assert "production gets none of its events" in text
    assert await scene.stored() == before
    assert result.response is not None
    await scene.alice.click(result.response, label="Register it")
    assert (await scene.core.manager.get("mine")).guild_ids == (str(COOKS_GUILD),)


async def test_where_the_last_day_is_not_known_a_server_is_asked_about(
    scene: Scene, stopwatch: Stopwatch
) -> None:
    """After a restart that could not be read back, or when nobody writes, a busy server looks quiet."""
    made = await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    scene.core.intake.forget(0)
    scene.core.intake.adopt("after a restart", 0, 0)
    stopwatch.forward(20)
    record = LastEventRecord(scene.core.redis)
    await record.incomplete_before(time.time() - 1230)
    before = await scene.stored()
    asked = await scene.alice.slash(scene.channel, "sandbox register-guild", guild=str(COOKS_GUILD))
    quiet = f"No event of **Cooks** (`{COOKS_GUILD}`) went to production in the last 20 minutes; "
    assert quiet + "the time before is unknown." in text_of(embed_of(asked))
    production_events(scene.core, DEV_GUILD, 1)
    assert made.response is not None
    pressed = await scene.alice.click(made.response, label="Register this server")
    assert "went to production less than a minute ago" in text_of(embed_of(pressed))
    assert await scene.stored() == before
    await record.incomplete_before(time.time())
    created = await scene.alice.slash(scene.channel, "sandbox create", name="another", guild=str(COOKS_GUILD))
    server = f"**Cooks** (`{COOKS_GUILD}`)"
    unknown = f"It is unknown whether events of {server} went to production in the last 24 hours."
    assert unknown in text_of(embed_of(created))
    assert (await scene.stored())["guilds"] == []


async def test_a_refusal_comes_before_the_question(scene: Scene) -> None:
    """A question whose only answer is a refusal is not asked, also not about a protected server."""
    await scene.bot_owner.slash(scene.channel, "sandbox create", name="first")
    asked = await scene.bot_owner.slash(
        scene.channel, "sandbox register-guild", name="first", guild=str(PROTECTED_GUILD)
    )
    assert asked.response is not None
    await scene.bot_owner.click(asked.response, label="Register it")
    await scene.bot_owner.slash(scene.channel, "sandbox create", name="second")
    before = await scene.stored()
    for command, options, code in (
        ("sandbox register-guild", {"name": "second"}, "SANDBOX_003"),
        ("sandbox create", {"name": "third"}, "SANDBOX_003"),
    ):
        refused = await scene.bot_owner.slash(scene.channel, command, guild=str(PROTECTED_GUILD), **options)
        assert code_of(refused) == code, command
    production_events(scene.core, COOKS_GUILD, 5)
    taken = await scene.bot_owner.slash(scene.channel, "sandbox create", name="first", guild=str(COOKS_GUILD))
    assert code_of(taken) == "SANDBOX_001"
    assert await scene.stored() == before


async def test_nobody_is_asked_about_what_they_may_not_do(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    for guild_id in (COOKS_GUILD, MUSIC_GUILD, DEV_GUILD):
        production_events(scene.core, guild_id, 5)
    before = await scene.stored()
    for command, options in (
        ("sandbox register-guild", {"guild": str(MUSIC_GUILD)}),
        ("sandbox create", {"guild": str(MUSIC_GUILD), "name": "another"}),
    ):
        result = await scene.alice.slash(scene.channel, command, **options)
        assert code_of(result) == "SANDBOX_010", command
    others = await scene.bob.slash(scene.channel, "sandbox register-guild", name="mine")
    assert code_of(others) == "SANDBOX_010"
    assert await scene.stored() == before


async def test_the_caller_is_looked_up_again_at_the_click(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    production_events(scene.core, COOKS_GUILD, 5)
    result = await scene.alice.slash(scene.channel, "sandbox register-guild", guild=str(COOKS_GUILD))
    assert result.response is not None
    scene.env.backend.get_member(COOKS_GUILD, scene.alice.id).role_ids.clear()
    await scene.alice.click(result.response, label="Register it")
    assert result.response.embeds[0].footer.text == "SANDBOX_010"
    assert (await scene.stored())["guilds"] == []


async def test_a_double_click_registers_once(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    production_events(scene.core, COOKS_GUILD, 5)
    result = await scene.alice.slash(scene.channel, "sandbox register-guild", guild=str(COOKS_GUILD))
    assert result.response is not None
    presses = [Press(scene, scene.alice, result.response, "Register it") for _ in range(3)]
    for press in presses:
        press.send()
    await scene.env.settle()
    assert all(press.result.acknowledged for press in presses)
    assert [event for _, event in (await scene.stored())["audit"]].count("guild_registered") == 1


async def test_create_makes_the_sandbox_and_asks_about_the_server(scene: Scene) -> None:
    production_events(scene.core, COOKS_GUILD, 7)
    result = await scene.alice.slash(scene.channel, "sandbox create", name="mine", guild=str(COOKS_GUILD))
    embed = embed_of(result)
    assert embed.title == "Sandbox mine is running"
    assert "Not registered yet" in text_of(embed)
    assert "about 7 events" in text_of(embed)
    assert (await scene.core.manager.get("mine")).guild_ids == ()
    assert result.response is not None
    assert labels_of(result.response) == [
        "Register it",
        "Leave it to production",
        "Connect",
        "Register this server",
        "Extend",
        "Destroy",
    ]
    await scene.alice.click(result.response, label="Register it")
    assert result.response.embeds[0].title == "Server registered"
    assert labels_of(result.response) == ["Connect", "Register this server", "Extend", "Destroy"]
    assert (await scene.core.manager.get("mine")).guild_ids == (str(COOKS_GUILD),)


async def test_a_protected_server_takes_the_bots_owner_and_a_confirmation(scene: Scene) -> None:
    await scene.bot_owner.slash(scene.channel, "sandbox create", name="roots")
    before = await scene.stored()
    result = await scene.bot_owner.slash(scene.channel, "sandbox register-guild", guild=str(PROTECTED_GUILD))
    text = text_of(embed_of(result))
    assert f"**Production** (`{PROTECTED_GUILD}`) is one of the protected servers." in text
    assert "In the last minute" not in text
    assert await scene.stored() == before
    assert result.response is not None
    await scene.bot_owner.click(result.response, label="Register it")
    assert result.response.embeds[0].title == "Server registered"
    assert (await scene.core.manager.get("roots")).guild_ids == (str(PROTECTED_GUILD),)


async def test_creating_with_a_protected_server_asks_the_bots_owner_too(scene: Scene) -> None:
    options = {"name": "roots", "guild": str(PROTECTED_GUILD)}
    refused = await scene.alice.slash(scene.channel, "sandbox create", **options)
    assert code_of(refused) == "SANDBOX_010"
    asked = await scene.bot_owner.slash(scene.channel, "sandbox create", **options)
    assert "is one of the protected servers" in text_of(embed_of(asked))
    assert (await scene.core.manager.get("roots")).guild_ids == ()


async def test_a_question_about_a_protected_server_is_no_way_around_the_rule(scene: Scene) -> None:
    made = await scene.bot_owner.slash(scene.channel, "sandbox create", name="roots")
    result = await scene.bot_owner.slash(scene.channel, "sandbox register-guild", guild=str(PROTECTED_GUILD))
    assert made.response is not None
    assert result.response is not None
    before = await scene.stored()
    # The same id with alice's own: she manages the server, but does not own the bot.
    forged = button_id(result.response, "Register it").replace(str(scene.bot_owner.id), str(scene.alice.id))
    stored = scene.env.backend.get_message(result.response.channel_id, result.response.id)
    stored.components[0]["components"][0]["custom_id"] = forged
    press = Press(scene, scene.alice, result.response, custom_id=forged)
    press.send()
    await scene.env.settle()
    assert result.response.embeds[0].footer.text == "SANDBOX_010"
    assert await scene.stored() == before
