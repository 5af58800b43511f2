"""What holds for every command there is, and for those still to come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import discord
import pytest
from discord import app_commands

from sandbox_cogs.sandbox._group import SandboxCommands
from sandbox_core.bootstrap import Core
from sandbox_core.error_text import has_own_text
from sandbox_core.errors import SandboxError

from .conftest import COOKS_GUILD, DEV_GUILD, Scene, code_of, embed_of, text_of

ROLE = 500000000000000001
OPTIONS: dict[str, dict[str, str]] = {
    "connect": {"name": "mine"},
    "rotate": {"name": "mine"},
    "extend": {"name": "mine", "duration": "1h"},
    "level": {"name": "mine", "level": "read_only"},
    "share": {"name": "mine"},
    "unshare": {"name": "mine"},
}


@pytest.fixture
def role_ids() -> str:
    return str(ROLE)


def commands_of(scene: Scene) -> Iterator[app_commands.Command[Any, ..., Any]]:
    """Every command of the bot's tree, at any depth."""
    tree: app_commands.CommandTree[Any] = scene.env.bot.tree  # type: ignore[attr-defined]
    for command in tree.walk_commands(guild=discord.Object(DEV_GUILD)):
        if isinstance(command, app_commands.Command):
            yield command


def options_of(scene: Scene, command: app_commands.Command[Any, ..., Any]) -> dict[str, Any]:
    """What the command can't do without."""
    wanted = {parameter.name for parameter in command.parameters if parameter.required}
    return {**OPTIONS.get(command.name, {}), **({"user": scene.bob} if "user" in wanted else {})}


async def test_every_command_has_a_check_and_an_error_text(scene: Scene) -> None:
    guest = scene.alice.guild.add_member(scene.env.create_user("guest"))
    names = [command.name for command in commands_of(scene)]
    assert len(names) == 15
    for command in commands_of(scene):
        options = options_of(scene, command)
        before = await scene.stored()
        refused = await guest.slash(scene.channel, command.qualified_name, **options)
        assert code_of(refused) == "SANDBOX_010", command.name
        assert await scene.stored() == before


async def test_every_command_answers_a_fault_with_an_id(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fault(*_: object, **__: object) -> None:
        raise RuntimeError("the password is hunter2")

    for name in ("create", "list", "get", "for_guild", "unregister_guild", "extend", "rotate", "health"):
        monkeypatch.setattr(scene.core.manager, name, fault)
    for command in commands_of(scene):
        if command.name == "help":
            continue
        options = options_of(scene, command)
        result = await scene.alice.slash(scene.channel, command.qualified_name, **options)
        assert embed_of(result).title == "Something went wrong inside the bot", command.name
        assert "hunter2" not in text_of(embed_of(result))


async def test_every_name_and_guild_autocompletes(scene: Scene) -> None:
    for command in commands_of(scene):
        for parameter in command.parameters:
            name = parameter.display_name
            wanted = name in {"guild", "template", "type"} or (name == "name" and command.name != "create")
            assert parameter.autocomplete == wanted, f"{command.name} {parameter.display_name}"


async def test_help_names_every_command_with_its_words(scene: Scene) -> None:
    embed = embed_of(await scene.alice.slash(scene.channel, "sandbox help"))
    text = text_of(embed)
    for command in commands_of(scene):
        assert f"`/{command.qualified_name}` · {command.description}" in text
    assert "lives 24 hours unless you say otherwise, and at most 168" in text
    assert "3 sandboxes at a time" in text


async def test_a_refusal_is_no_failure_for_a_hosts_error_handler(scene: Scene) -> None:
    guest = scene.alice.guild.add_member(scene.env.create_user("guest"))
    await guest.slash(scene.channel, "sandbox list")
    assert scene.env.errors == []


async def test_without_roles_discords_own_rule_is_manage_server(core: Core) -> None:
    plain = core.settings.model_copy(update={"discord_dev_role_ids": ()})
    without = SandboxCommands(_with_settings(core, plain))
    assert without.default_permissions == discord.Permissions(manage_guild=True)
    assert SandboxCommands(core).default_permissions is None


def _with_settings(core: Core, settings: Any) -> Any:
    class Changed:
        def __getattr__(self, name: str) -> Any:
            return settings if name == "settings" else getattr(core, name)

    return Changed()


def all_errors(root: type[SandboxError] = SandboxError) -> Iterator[type[SandboxError]]:
    for cls in root.__subclasses__():
        yield cls
        yield from all_errors(cls)


def test_every_refusal_has_words() -> None:
    assert [cls.__name__ for cls in all_errors() if not has_own_text(cls)] == []


async def test_every_answer_is_private(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine", guild=str(COOKS_GUILD))
    for command in commands_of(scene):
        options = options_of(scene, command)
        result = await scene.alice.slash(scene.channel, command.qualified_name, **options)
        assert result.ephemeral, command.name
