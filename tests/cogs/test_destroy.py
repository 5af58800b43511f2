"""The question before a sandbox is destroyed: who may answer it, and how often."""

from __future__ import annotations

from typing import Any

import pytest
import simcord
from simcord.backend import serializers
from simcord.interactions import base_payload

from sandbox_core.errors import SandboxNotFound

from .conftest import COOKS_GUILD, DEV_GUILD, Scene, code_of, embed_of, text_of

COMPONENT, BUTTON = 3, 2


async def ask(scene: Scene, name: str) -> simcord.ResponseMessage:
    result = await scene.alice.slash(scene.channel, "sandbox destroy", name=name)
    embed_of(result)
    assert result.response is not None
    return result.response


def button_id(question: simcord.ResponseMessage, label: str) -> str:
    (found,) = [
        button["custom_id"]
        for row in question.components
        for button in row["components"]
        if button["label"] == label
    ]
    return str(found)


class Press:
    """A click as it comes over the wire, also where Discord's client would not offer the button.

    It holds the message as it was when the press was made: the second of two fast clicks still shows
    the buttons that the first one removes.
    """

    def __init__(
        self, scene: Scene, who: simcord.MemberActor, question: simcord.ResponseMessage, label: str
    ) -> None:
        self._backend = scene.env.backend
        stored = self._backend.get_message(question.channel_id, question.id)
        record, self._payload = base_payload(
            self._backend,
            type=COMPONENT,
            channel_id=question.channel_id,
            guild_id=DEV_GUILD,
            user_id=who.id,
            data={"custom_id": button_id(question, label), "component_type": BUTTON},
        )
        self._payload["message"] = dict(serializers.message_payload(self._backend, stored))
        record.source_message_id = stored.id
        self.result = simcord.InteractionResult(scene.env, record)

    def send(self) -> None:
        self._backend.emit("INTERACTION_CREATE", self._payload)


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
    await simcord_bot.reload_extension("cogs.sandbox")
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
