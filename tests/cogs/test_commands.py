"""Each command of `/sandbox`, as a developer uses it, on the real stores."""

from __future__ import annotations

import re

import discord
import pytest
import simcord

from sandbox_core.models import SandboxStatus

from .conftest import (
    COOKS_GUILD,
    DEV_GUILD,
    MUSIC_GUILD,
    PROTECTED_GUILD,
    Scene,
    embed_of,
    text_of,
)


async def test_create_makes_a_running_sandbox(scene: Scene) -> None:
    result = await scene.alice.slash(scene.channel, "sandbox create", name="welcome-flow", ttl="3h")
    sandbox = await scene.core.manager.get("welcome-flow")
    embed = embed_of(result)
    callbacks = [request.json for request in scene.env.http_requests if request.path.endswith("/callback")]
    assert callbacks == [{"type": 5, "data": {"flags": 64}}], "deferred, and only the caller sees it"
    assert embed.title == "Sandbox welcome-flow is running"
    text = text_of(embed)
    assert str(sandbox.id) in text
    assert sandbox.schema_name in text
    assert f"<t:{int(sandbox.expires_at.timestamp())}:R>" in text
    assert f"<@{scene.alice.id}>" in text
    assert (sandbox.owner, sandbox.owner_name, sandbox.status) == (
        str(scene.alice.id),
        "alice",
        SandboxStatus.RUNNING,
    )
    assert (sandbox.expires_at - sandbox.created_at).total_seconds() == 3 * 3600
    assert (sandbox.schema_name,) in (await scene.stored())["schemas"]


async def test_create_makes_up_a_name(scene: Scene) -> None:
    embed = embed_of(await scene.alice.slash(scene.channel, "sandbox create"))
    assert re.fullmatch(r"Sandbox sandbox-alice-[a-z0-9]{6} is running", embed.title or "")


async def test_create_registers_a_guild_with_it(scene: Scene) -> None:
    result = await scene.alice.slash(scene.channel, "sandbox create", name="cooking", guild=str(COOKS_GUILD))
    text = text_of(embed_of(result))
    assert "The live events of its servers now go to this sandbox, and no longer to production." in text
    assert f"**Cooks** (`{COOKS_GUILD}`)" in text
    sandbox = await scene.core.manager.get("cooking")
    assert (await scene.stored())["guilds"] == [(str(COOKS_GUILD), sandbox.id)]


async def test_list_shows_everybodys_sandboxes_and_filters(scene: Scene) -> None:
    assert "There are no sandboxes" in text_of(embed_of(await scene.bob.slash(scene.channel, "sandbox list")))
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    await scene.bob.slash(scene.channel, "sandbox create", name="bobs")
    embed = embed_of(await scene.bob.slash(scene.channel, "sandbox list"))
    assert embed.title == "2 sandboxes"
    assert "**alices** · running" in (embed.description or "")
    assert f"<@{scene.bob.id}> · 0 servers · expires <t:" in (embed.description or "")

    own = text_of(embed_of(await scene.bob.slash(scene.channel, "sandbox list", owner=scene.bob)))
    assert "bobs" in own
    assert "alices" not in own
    none = await scene.bob.slash(scene.channel, "sandbox list", status="expired")
    assert "No sandbox matches" in text_of(embed_of(none))


async def test_list_shows_destroyed_ones_on_request(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="gone-soon")
    question = await scene.alice.slash(scene.channel, "sandbox destroy", name="gone-soon")
    assert question.response is not None
    await scene.alice.click(question.response, label="Destroy it")
    assert "gone-soon" not in text_of(embed_of(await scene.alice.slash(scene.channel, "sandbox list")))
    everything = await scene.alice.slash(scene.channel, "sandbox list", all=True)
    assert "**gone-soon** · destroyed" in text_of(embed_of(everything))


async def test_status_shows_the_health_of_every_store(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="healthy", guild=str(COOKS_GUILD))
    embed = embed_of(await scene.bob.slash(scene.channel, "sandbox status", name="healthy"))
    assert embed.description == "🟢 running, healthy"
    parts = {field.name: field.value for field in embed.fields}
    assert "3 tables, 0 rows" in (parts["🟢 PostgreSQL"] or "")
    assert "0 keys" in (parts["🟢 Redis"] or "")
    assert "no events stored" in (parts["🟢 NATS"] or "")
    assert parts["Servers"] == f"**Cooks** (`{COOKS_GUILD}`)"


async def test_status_without_a_name_is_of_this_guilds_sandbox_else_of_the_only_one(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    await scene.bob.slash(scene.channel, "sandbox create", name="bobs")
    assert "bobs" in (embed_of(await scene.bob.slash(scene.channel, "sandbox status")).title or "")
    await scene.alice.slash(scene.channel, "sandbox register-guild")
    assert "alices" in (embed_of(await scene.bob.slash(scene.channel, "sandbox status")).title or "")


async def test_register_guild_defaults_to_the_only_sandbox_and_this_guild(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    text = text_of(embed_of(await scene.alice.slash(scene.channel, "sandbox register-guild")))
    sandbox = await scene.core.manager.get("alices")
    assert f"live events of **Dev** (`{DEV_GUILD}`) now go to the sandbox `alices`" in text
    assert "no longer to production" in text
    assert f"`sandbox.{sandbox.id}.events.*`" in text
    assert (await scene.stored())["guilds"] == [(str(DEV_GUILD), sandbox.id)]


async def test_register_guild_takes_another_guild_by_its_id(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    await scene.alice.slash(scene.channel, "sandbox register-guild", name="alices", guild=f" {COOKS_GUILD} ")
    assert (await scene.core.manager.get("alices")).guild_ids == (str(COOKS_GUILD),)


async def test_unregister_guild_sends_the_events_to_production_again(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices", guild=str(COOKS_GUILD))
    result = await scene.alice.slash(scene.channel, "sandbox unregister-guild", guild=str(COOKS_GUILD))
    text = text_of(embed_of(result))
    assert f"events of **Cooks** (`{COOKS_GUILD}`) go to production again, and no longer to `alices`" in text
    assert (await scene.stored())["guilds"] == []


async def test_unregister_guild_is_open_to_who_manages_the_guild(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices")
    await scene.alice.slash(scene.channel, "sandbox register-guild")
    embed_of(await scene.bob.slash(scene.channel, "sandbox unregister-guild", name="alices"))
    assert (await scene.stored())["guilds"] == []


async def test_extend_adds_to_the_expiry_and_says_when_it_was_capped(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="longer", ttl="1h")
    before = await scene.core.manager.get("longer")
    embed = embed_of(await scene.alice.slash(scene.channel, "sandbox extend", name="longer", duration="2h"))
    after = await scene.core.manager.get("longer")
    assert (after.expires_at - before.expires_at).total_seconds() == 2 * 3600
    assert f"<t:{int(after.expires_at.timestamp())}:R>" in (embed.description or "")
    assert "less than you asked" not in (embed.description or "")
    for more in ("168", "900h", "10y"):
        embed = embed_of(
            await scene.alice.slash(scene.channel, "sandbox extend", name="longer", duration=more)
        )
        assert "less than you asked" in (embed.description or "")


async def test_connect_gives_the_environment_as_a_block_and_a_file(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="alices", guild=str(COOKS_GUILD))
    sandbox = await scene.core.manager.get("alices")
    result = await scene.alice.slash(scene.channel, "sandbox connect", name="alices")
    block = embed_of(result).description or ""
    expected = {
        "SANDBOX_ID": str(sandbox.id),
        "SANDBOX_NAME": "alices",
        "SANDBOX_SCHEMA": sandbox.schema_name,
        "SANDBOX_REDIS_PREFIX": f"sandbox:{sandbox.id}:",
        "SANDBOX_NATS_PREFIX": f"sandbox.{sandbox.id}.",
        "SANDBOX_GUILD_IDS": str(COOKS_GUILD),
    }
    lines = block.removeprefix("```sh\n").removesuffix("\n```").splitlines()
    assert lines == [f'export {name}="{value}"' for name, value in expected.items()]
    assert result.response is not None
    (file,) = result.response.attachments
    assert file.filename == "alices.env"
    dotenv = (await file.read()).decode()
    assert dotenv == "".join(f"{name}={value}\n" for name, value in expected.items())


async def test_names_autocomplete_own_sandboxes_first(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="feature-a")
    await scene.bob.slash(scene.channel, "sandbox create", name="feature-b")
    for command in ("status", "connect", "register-guild", "unregister-guild", "extend", "reset", "destroy"):
        choices = await scene.bob.autocomplete(scene.channel, f"sandbox {command}", "name", "feat")
        assert [choice["value"] for choice in choices] == ["feature-b", "feature-a"]
    assert choices[0]["name"] == "feature-b · running · bob"
    assert await scene.bob.autocomplete(scene.channel, "sandbox status", "name", "*;drop") == []


async def test_guilds_autocomplete_only_those_the_caller_manages(scene: Scene) -> None:
    async def offered(member: simcord.MemberActor, command: str, typed: str) -> list[str]:
        choices = await member.autocomplete(scene.channel, f"sandbox {command}", "guild", typed)
        return [choice["value"] for choice in choices]

    for command in ("create", "register-guild", "unregister-guild"):
        assert await offered(scene.bob, command, "") == [str(DEV_GUILD), str(MUSIC_GUILD)]
    assert await offered(scene.alice, "create", "cOO") == [str(COOKS_GUILD)]
    assert await offered(scene.alice, "create", str(COOKS_GUILD)[:-1]) == [
        str(DEV_GUILD),
        str(COOKS_GUILD),
        str(PROTECTED_GUILD),
    ]
    assert await offered(scene.bob, "create", "cooks") == []


@pytest.mark.parametrize("command", ["list", "status"])
async def test_people_without_manage_server_do_not_see_the_commands(scene: Scene, command: str) -> None:
    guest = scene.alice.guild.add_member(scene.env.create_user("guest"))
    assert f"sandbox {command}" not in guest.available_commands(scene.channel)
    assert f"sandbox {command}" in scene.alice.available_commands(scene.channel)


async def test_the_group_is_for_guilds_and_for_those_who_manage_them(scene: Scene) -> None:
    command = scene.env.bot.tree.get_command("sandbox", guild=discord.Object(DEV_GUILD))  # type: ignore[attr-defined]
    assert command.guild_only
    assert command.default_permissions == discord.Permissions(manage_guild=True)
    assert {child.name for child in command.commands} == {
        "connect",
        "create",
        "destroy",
        "events",
        "extend",
        "help",
        "level",
        "list",
        "register-guild",
        "reset",
        "rotate",
        "share",
        "status",
        "unregister-guild",
        "unshare",
    }
    for child in command.commands:
        assert child.description
        assert all(parameter.description != "…" for parameter in child.parameters)
    assert scene.env.bot.tree.get_command("sandbox") is None  # type: ignore[attr-defined]
