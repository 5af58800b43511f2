"""The buttons below an answer: what each does, for whom, how often, and after a restart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import discord
import pytest
import simcord
from structlog.testing import capture_logs

from .conftest import DEV_GUILD, Press, Scene, button_id, code_of, embed_of, labels_of, no_connection, text_of

LABELS = ["Connect", "Register this server", "Extend", "Destroy"]


async def made(scene: Scene, name: str = "mine") -> simcord.ResponseMessage:
    """The answer to `create`, with its buttons."""
    result = await scene.alice.slash(scene.channel, "sandbox create", name=name)
    embed_of(result)
    assert result.response is not None
    return result.response


async def test_create_ends_with_its_four_buttons_and_they_stay(scene: Scene) -> None:
    answer = await made(scene)
    assert labels_of(answer) == LABELS
    ids = [button_id(answer, label) for label in LABELS]
    assert all(button.startswith("sandbox:") and len(button) <= 100 for button in ids)
    await scene.alice.click(answer, label="Connect")
    assert labels_of(answer) == LABELS


async def test_a_form_that_could_not_be_acknowledged_counts_when_it_is_sent_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await made(scene)
    before = await scene.core.manager.get("mine")
    form = await scene.alice.click(answer, label="Extend")
    with monkeypatch.context() as discord_away:
        discord_away.setattr("sandbox_cogs._requests.PAUSES", ())
        for method in ("defer", "send_message"):
            discord_away.setattr(discord.InteractionResponse, method, no_connection)
        await scene.alice.submit_modal(form, {"sandbox:duration": "90m"})
    # simcord closes every form that was sent; Discord's client keeps one open that nobody acknowledged.
    form._interaction.modal_consumed = False
    assert (await scene.core.manager.get("mine")).expires_at == before.expires_at
    result = await scene.alice.submit_modal(form, {"sandbox:duration": "90m"})
    assert embed_of(result).title == "Sandbox extended"


async def test_connect_answers_in_a_message_of_its_own(scene: Scene) -> None:
    answer = await made(scene)
    result = await scene.alice.click(answer, label="Connect")
    assert embed_of(result).title == "Environment of mine"
    assert result.response is not None
    assert result.response.id != answer.id
    (file,) = result.response.attachments
    assert file.filename == "mine.env"


async def test_register_takes_the_server_it_is_pressed_in(scene: Scene) -> None:
    result = await scene.alice.click(await made(scene), label="Register this server")
    assert embed_of(result).title == "Server registered"
    assert (await scene.core.manager.get("mine")).guild_ids == (str(DEV_GUILD),)


async def test_extend_asks_for_the_duration_in_a_form(scene: Scene) -> None:
    answer = await made(scene)
    before = await scene.core.manager.get("mine")
    form = await scene.alice.click(answer, label="Extend")
    assert form.modal is not None
    assert form.modal["title"] == "Extend the sandbox"
    result = await scene.alice.submit_modal(form, {"sandbox:duration": "90m"})
    assert embed_of(result).title == "Sandbox extended"
    after = await scene.core.manager.get("mine")
    assert after.expires_at - before.expires_at == timedelta(minutes=90)


async def test_a_form_sent_twice_extends_once(scene: Scene) -> None:
    answer = await made(scene)
    before = await scene.core.manager.get("mine")
    form = await scene.alice.click(answer, label="Extend")
    first = await scene.alice.submit_modal(form, {"sandbox:duration": "1h"})
    # Discord's client sends a form once; a connection that stalls may send it again.
    form._interaction.modal_consumed = False
    again = await scene.alice.submit_modal(form, {"sandbox:duration": "1h"})
    assert embed_of(first).title == "Sandbox extended"
    assert again.acknowledged
    after = await scene.core.manager.get("mine")
    assert after.expires_at - before.expires_at == timedelta(hours=1)


async def test_a_form_with_nonsense_is_refused_with_a_way_out(scene: Scene) -> None:
    form = await scene.alice.click(await made(scene), label="Extend")
    result = await scene.alice.submit_modal(form, {"sandbox:duration": "soon"})
    assert code_of(result) == "SANDBOX_007"
    assert "For example" in text_of(embed_of(result))


async def test_destroy_asks_first(scene: Scene) -> None:
    result = await scene.alice.click(await made(scene), label="Destroy")
    assert embed_of(result).title == "Destroy the sandbox mine?"
    assert result.response is not None
    await scene.alice.click(result.response, label="Destroy it")
    assert result.response.embeds[0].title == "Sandbox mine is destroyed"


@pytest.mark.parametrize("label", ["Connect", "Register this server", "Destroy"])
async def test_only_the_owner_may(scene: Scene, label: str) -> None:
    answer = await made(scene)
    before = await scene.stored()
    press = Press(scene, scene.bob, answer, label)
    press.send()
    await scene.env.settle()
    assert code_of(press.result) == "SANDBOX_010"
    assert press.result.response is not None
    assert press.result.response.attachments == []
    assert await scene.stored() == before


async def test_whose_it_is_is_asked_again_when_the_form_is_sent(scene: Scene) -> None:
    form = await scene.alice.click(await made(scene), label="Extend")
    await scene.core.pool.execute("UPDATE sandboxes SET owner = $1", str(scene.bob.id))
    before = await scene.stored()
    result = await scene.alice.submit_modal(form, {"sandbox:duration": "1h"})
    assert code_of(result) == "SANDBOX_010"
    assert await scene.stored() == before


@pytest.mark.parametrize("label", ["Connect", "Register this server", "Destroy"])
async def test_a_double_click_is_answered_once(scene: Scene, label: str) -> None:
    answer = await made(scene)
    presses = [Press(scene, scene.alice, answer, label) for _ in range(3)]
    for press in presses:
        press.send()
    await scene.env.settle()
    assert all(press.result.acknowledged for press in presses)
    shown = [
        press.result.response
        for press in presses
        if press.result.response is not None and press.result.response.id != answer.id
    ]
    assert len(shown) == 1
    assert labels_of(answer) == LABELS


async def test_buttons_and_forms_survive_a_restart_of_the_bot(scene: Scene, simcord_bot: Any) -> None:
    answer = await made(scene)
    form = await scene.alice.click(answer, label="Extend")
    await simcord_bot.reload_extension("sandbox_cogs.sandbox")
    extended = await scene.alice.submit_modal(form, {"sandbox:duration": "1h"})
    assert embed_of(extended).title == "Sandbox extended"
    for label, title in (
        ("Connect", "Environment of mine"),
        ("Register this server", "Server registered"),
        ("Destroy", "Destroy the sandbox mine?"),
    ):
        assert embed_of(await scene.alice.click(answer, label=label)).title == title


async def test_a_sandbox_that_is_gone_by_the_time_of_the_press(scene: Scene) -> None:
    answer = await made(scene)
    actor_id = str(scene.alice.id)
    sandbox = (await scene.core.manager.list(owner=actor_id))[0]
    question = await scene.alice.click(answer, label="Destroy")
    assert question.response is not None
    await scene.alice.click(question.response, label="Destroy it")
    for label in ("Connect", "Register this server", "Destroy"):
        result = await scene.alice.click(answer, label=label)
        assert code_of(result) == "SANDBOX_004", label
        assert str(sandbox.id) in text_of(embed_of(result))


@pytest.mark.parametrize(
    "custom_id",
    [
        "sandbox:connect:not-an-id",
        "sandbox:unheard-of",
        "sandbox:later:1",
        f"sandbox:ask:other:yes:{'1' * 18}:2",
    ],
)
async def test_a_button_of_another_version_says_so(scene: Scene, custom_id: str) -> None:
    answer = await made(scene)
    stored = scene.env.backend.get_message(answer.channel_id, answer.id)
    stored.components[0]["components"][0]["custom_id"] = custom_id
    press = Press(scene, scene.alice, answer, custom_id=custom_id)
    press.send()
    await scene.env.settle()
    assert embed_of(press.result).title == "This button does not work any more"


async def test_a_fault_behind_a_button_has_an_id_that_is_in_the_log(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await made(scene)

    async def fault(_reference: str) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(scene.core.manager, "get", fault)
    with capture_logs() as logs:
        result = await scene.alice.click(answer, label="Connect")
    (entry,) = [entry for entry in logs if entry["event"] == "interaction_failed"]
    assert f"`{entry['error_id']}`" in text_of(embed_of(result))
    assert "hunter2" not in text_of(embed_of(result))
