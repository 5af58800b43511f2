"""Who may use the commands where the settings name developer roles."""

from __future__ import annotations

from typing import Any

import discord
import pytest
import simcord
from simcord.backend.models import Role

from .conftest import DEV_GUILD, Press, Scene, code_of, embed_of, text_of

ROLE = 500000000000000001


@pytest.fixture
def role_ids() -> str:
    return f"{ROLE},{ROLE + 1}"


def member(scene: Scene, name: str, *, with_role: bool) -> simcord.MemberActor:
    """A member of the dev guild without Manage Server.

    The role is put straight into Discord's state, without the event that says so: after a resumed session
    a bot does not know a guild's roles either.
    """
    added = scene.alice.guild.add_member(scene.env.create_user(name))
    if with_role:
        backend = scene.env.backend
        backend.get_guild(DEV_GUILD).roles[ROLE] = Role(ROLE, "developers", permissions=0, position=1)
        backend.get_member(DEV_GUILD, added.id).role_ids.append(ROLE)
    return added


async def test_a_role_is_enough_and_others_are_refused(scene: Scene) -> None:
    developer = member(scene, "dana", with_role=True)
    guest = member(scene, "guest", with_role=False)
    created = await developer.slash(scene.channel, "sandbox create", name="danas")
    assert embed_of(created).title == "Sandbox danas is running"
    before = await scene.stored()
    refused = await guest.slash(scene.channel, "sandbox create", name="guests")
    assert code_of(refused) == "SANDBOX_010"
    assert f"Manage Server or <@&{ROLE}> or <@&{ROLE + 1}>" in text_of(embed_of(refused))
    assert await scene.stored() == before
    # Manage Server and owning the bot are as good.
    embed_of(await scene.bob.slash(scene.channel, "sandbox list"))


async def test_the_bots_owner_needs_no_role(scene: Scene) -> None:
    scene.env.backend.get_member(DEV_GUILD, scene.bot_owner.id).role_ids.clear()
    assert code_of(await scene.bot_owner.slash(scene.channel, "sandbox list")) is None


async def test_the_commands_are_shown_to_all_then(scene: Scene) -> None:
    command: Any = scene.env.bot.tree.get_command("sandbox", guild=discord.Object(DEV_GUILD))  # type: ignore[attr-defined]
    assert command.default_permissions is None
    guest = member(scene, "guest", with_role=False)
    assert "sandbox list" in guest.available_commands(scene.channel)


async def test_no_names_are_suggested_to_others(scene: Scene) -> None:
    developer = member(scene, "dana", with_role=True)
    guest = member(scene, "guest", with_role=False)
    await developer.slash(scene.channel, "sandbox create", name="danas")
    names = await developer.autocomplete(scene.channel, "sandbox status", "name", "")
    assert [choice["value"] for choice in names] == ["danas"]
    assert await guest.autocomplete(scene.channel, "sandbox status", "name", "") == []
    assert await guest.autocomplete(scene.channel, "sandbox create", "guild", "") == []


async def test_a_role_taken_away_counts_for_buttons_too(scene: Scene) -> None:
    developer = member(scene, "dana", with_role=True)
    created = await developer.slash(scene.channel, "sandbox create", name="danas")
    assert created.response is not None
    form = await developer.click(created.response, label="Extend")
    scene.env.backend.get_member(DEV_GUILD, developer.id).role_ids.clear()
    press = Press(scene, developer, created.response, "Connect")
    press.send()
    await scene.env.settle()
    assert code_of(press.result) == "SANDBOX_010"
    assert code_of(await developer.submit_modal(form, {"sandbox:duration": "1h"})) == "SANDBOX_010"


async def test_discord_away_while_the_owner_is_asked_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_user: object) -> bool:
        raise ConnectionResetError

    monkeypatch.setattr(scene.env.bot, "is_owner", away)
    guest = member(scene, "guest", with_role=False)
    result = await guest.slash(scene.channel, "sandbox list")
    assert code_of(result) == "SANDBOX_012"
    assert "Discord is unavailable" in text_of(embed_of(result))


async def test_a_press_in_a_direct_message_is_checked_in_the_dev_guild(scene: Scene) -> None:
    developer = member(scene, "dana", with_role=True)
    created = await developer.slash(scene.channel, "sandbox create", name="danas")
    assert created.response is not None
    press = Press(scene, developer, created.response, "Connect", in_a_direct_message=True)
    press.send()
    await scene.env.settle()
    assert embed_of(press.result).title == "Environment of danas"
    scene.env.backend.get_member(DEV_GUILD, developer.id).role_ids.clear()
    press = Press(scene, developer, created.response, "Connect", in_a_direct_message=True)
    press.send()
    await scene.env.settle()
    assert code_of(press.result) == "SANDBOX_010"
