"""The question before sandboxes are destroyed: who may answer it, and how often."""

from __future__ import annotations

from typing import Any

import discord
import pytest
import simcord

from sandbox_core.errors import SandboxNotFound

from .conftest import COOKS_GUILD, Press, Scene, button_id, code_of, embed_of, no_connection, text_of


async def ask(scene: Scene, name: str) -> simcord.ResponseMessage:
    result = await scene.alice.slash(scene.channel, "sandbox destroy", name=name)
    embed_of(result)
    assert result.response is not None
    return result.response


async def audit_of(scene: Scene, event: str) -> int:
    count: int = await scene.core.pool.fetchval(
        "SELECT count(*) FROM sandbox_audit_log WHERE event_type::text = $1", event
    )
    return count


async def test_it_says_what_will_be_deleted_and_deletes_it_after_the_click(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="doomed", guild=str(COOKS_GUILD))
    sandbox = await scene.core.manager.get("doomed")
    question = await ask(scene, "doomed")
    text = text_of(question.embeds[0])
    assert f"`{sandbox.schema_name}`" in text
    assert f"**Cooks** (`{COOKS_GUILD}`)" in text
    assert button_id(question, "Destroy it").startswith("sandbox:")
    assert (await scene.core.manager.get("doomed")).status == "running"

    await scene.alice.click(question, label="Destroy it")
    assert question.embeds[0].title == "Sandbox doomed is destroyed"
    assert question.components == []
    stored = await scene.stored()
    assert stored["guilds"] == []
    assert stored["schemas"] == []
    with pytest.raises(SandboxNotFound):
        await scene.core.manager.get("doomed")


async def test_keeping_it_changes_nothing(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="kept")
    before = await scene.stored()
    question = await ask(scene, "kept")
    await scene.alice.click(question, label="Keep it")
    assert question.embeds[0].title == "Nothing was deleted"
    assert question.components == []
    assert await scene.stored() == before


async def test_a_double_click_acts_once(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="doomed")
    question = await ask(scene, "doomed")
    presses = [Press(scene, scene.alice, question, "Destroy it") for _ in range(3)]
    for press in presses:
        press.send()
    await scene.env.settle()
    assert all(press.result.acknowledged for press in presses)
    assert question.embeds[0].title == "Sandbox doomed is destroyed"
    assert await audit_of(scene, "sandbox_destroying") == 1
    assert await audit_of(scene, "sandbox_destroyed") == 1


async def test_the_first_of_both_buttons_counts(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="kept")
    question = await ask(scene, "kept")
    destroy = Press(scene, scene.alice, question, "Destroy it")
    await scene.alice.click(question, label="Keep it")
    destroy.send()
    await scene.env.settle()
    assert destroy.result.acknowledged
    assert (await scene.core.manager.get("kept")).status == "running"
    assert question.embeds[0].title == "Nothing was deleted"


@pytest.mark.parametrize("label", ["Destroy it", "Keep it"])
async def test_a_press_that_could_not_be_acknowledged_leaves_the_question_open(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    question = await ask(scene, "mine")
    with monkeypatch.context() as discord_away:
        discord_away.setattr("sandbox_cogs._requests.PAUSES", ())
        for method in ("edit_message", "send_message"):
            discord_away.setattr(discord.InteractionResponse, method, no_connection)
        Press(scene, scene.alice, question, label).send()
        await scene.env.settle()
    assert (await scene.core.manager.get("mine")).status == "running"
    await scene.alice.click(question, label="Destroy it")
    assert question.embeds[0].title == "Sandbox mine is destroyed"


async def test_only_the_person_who_was_asked_may_answer(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    question = await ask(scene, "alices")
    for label in ("Destroy it", "Keep it"):
        press = Press(scene, scene.bob, question, label)
        press.send()
        await scene.env.settle()
        assert code_of(press.result) == "SANDBOX_010"
    assert (await scene.core.manager.get("alices")).status == "running"
    assert question.components != []
    await scene.alice.click(question, label="Destroy it")
    assert question.embeds[0].title == "Sandbox alices is destroyed"


async def test_a_question_survives_a_restart_of_the_bot(scene: Scene, simcord_bot: Any) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="doomed")
    question = await ask(scene, "doomed")
    await simcord_bot.reload_extension("sandbox_cogs.sandbox")
    await scene.alice.click(question, label="Destroy it")
    assert question.embeds[0].title == "Sandbox doomed is destroyed"


async def test_an_old_question_is_not_acted_on(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="kept")
    question = await ask(scene, "kept")
    await scene.env.advance_time(11 * 60)
    await scene.alice.click(question, label="Destroy it")
    assert "too old" in text_of(question.embeds[0])
    assert (await scene.core.manager.get("kept")).status == "running"


async def test_a_sandbox_that_is_gone_by_the_time_of_the_click(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="doomed")
    first, second = await ask(scene, "doomed"), await ask(scene, "doomed")
    await scene.alice.click(first, label="Destroy it")
    await scene.alice.click(second, label="Destroy it")
    assert second.embeds[0].footer.text == "SANDBOX_004"
    assert second.components == []


async def ask_about_all(scene: Scene) -> simcord.ResponseMessage:
    result = await scene.alice.slash(scene.channel, "sandbox destroy", all=True)
    embed_of(result)
    assert result.response is not None
    return result.response


async def test_all_of_the_callers_are_destroyed_after_one_question(scene: Scene) -> None:
    for name in ("first", "second"):
        await scene.alice.slash(scene.channel, "sandbox create", name=name)
    await scene.bob.slash(scene.channel, "sandbox create", name="bobs")
    question = await ask_about_all(scene)
    text = text_of(question.embeds[0])
    assert "Destroy all of yours, 2 sandboxes?" in text
    for name in ("first", "second"):
        sandbox = await scene.core.manager.get(name)
        assert f"**{name}** · `{sandbox.schema_name}` · 0 servers" in text
    assert "bobs" not in text

    await scene.alice.click(question, label="Destroy all of them")
    assert question.embeds[0].title == "2 of 2 sandboxes destroyed"
    assert question.components == []
    assert "✅ **first** is destroyed" in text_of(question.embeds[0])
    assert [sandbox.name for sandbox in await scene.core.manager.list()] == ["bobs"]


async def test_each_result_is_reported_also_when_one_fails(scene: Scene) -> None:
    for name in ("fine", "stuck"):
        await scene.alice.slash(scene.channel, "sandbox create", name=name)
    question = await ask_about_all(scene)
    stuck = await scene.core.manager.get("stuck")
    # A sandbox whose creation is under way is not to be destroyed.
    await scene.core.pool.execute("UPDATE sandboxes SET status = 'creating' WHERE id = $1", stuck.id)
    await scene.alice.click(question, label="Destroy all of them")
    text = text_of(question.embeds[0])
    assert question.embeds[0].title == "1 of 2 sandboxes destroyed"
    assert "✅ **fine** is destroyed" in text
    assert "❌ **stuck**: The sandbox `stuck` is not running; its status is creating." in text
    assert "SANDBOX_008" in text
    assert [sandbox.name for sandbox in await scene.core.manager.list()] == ["stuck"]


async def test_a_sandbox_made_after_the_question_is_not_destroyed(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="first")
    question = await ask_about_all(scene)
    await scene.alice.slash(scene.channel, "sandbox create", name="second")
    await scene.alice.click(question, label="Destroy all of them")
    assert question.embeds[0].title == "Nothing was deleted"
    assert "not those of the question" in text_of(question.embeds[0])
    assert len(await scene.core.manager.list()) == 2


async def test_all_of_nothing_and_all_with_a_name_are_refused(scene: Scene) -> None:
    nothing = await scene.alice.slash(scene.channel, "sandbox destroy", all=True)
    assert code_of(nothing) == "SANDBOX_007"
    assert "You have no sandbox." in text_of(embed_of(nothing))
    await scene.alice.slash(scene.channel, "sandbox create", name="first")
    both = await scene.alice.slash(scene.channel, "sandbox destroy", name="first", all=True)
    assert code_of(both) == "SANDBOX_007"


async def test_without_a_name_it_is_the_only_one(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="single")
    asked = await scene.alice.slash(scene.channel, "sandbox destroy")
    assert embed_of(asked).title == "Destroy the sandbox single?"
