"""A command is used in Discord: the sandbox's bot gets it under the ids that it knows, and answers."""

from __future__ import annotations

import asyncio
from typing import Any

import discord
import pytest
from discord import app_commands

from discord_sim import SimGuild
from sandbox_core.postgres import commands as table
from sandbox_gateway.commands.service import SandboxCommands

from .calls import calling, names, slash
from .pybot import Listener, running
from .raw import Raw, connected
from .stage import BOB, Process, Stage, until

pytestmark = pytest.mark.usefixtures("discord_untouched")


async def used(raw: Raw) -> dict[str, Any]:
    """The next use of a command."""
    found = (await raw.until_event("INTERACTION_CREATE"))[-1]["d"]
    data: dict[str, Any] = found["data"]
    return data


async def test_a_use_at_once_has_the_id_that_is_still_being_stored(
    stage: Stage, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    alice = stage.sim.add_user("alice")
    guild.add_member(alice)
    store, may_store, looked = SandboxCommands._store, asyncio.Event(), asyncio.Event()
    known_as = table.known_as

    async def later(*arguments: Any) -> None:
        await may_store.wait()
        await store(*arguments)

    async def noted(*arguments: Any) -> tuple[str, str | None] | None:
        known = await known_as(*arguments)
        looked.set()
        return known

    monkeypatch.setattr(SandboxCommands, "_store", later)
    monkeypatch.setattr(table, "known_as", noted)
    async with calling(stage, mine, process) as bot, connected(process) as raw:
        await raw.identify(stage.token(mine))
        making = asyncio.create_task(bot.ask("PUT", body=[slash("ping")]))
        await until(lambda: "ping" in names(stage.sim, guild))
        using = asyncio.create_task(stage.sim.slash(alice, guild.default_channel, "ping"))
        await looked.wait()
        may_store.set()
        _, (made,) = await making
        assert (await used(raw))["id"] == made["id"]
        using.cancel()
        await asyncio.gather(using, return_exceptions=True)


async def test_a_use_has_the_ids_that_the_bot_knows(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    alice = stage.sim.add_user("alice")
    guild.add_member(alice)
    stage.sim.world.commands.create(None, slash("of-all"))
    stage.sim.world.commands.create(guild.id, slash("deploy"))
    async with calling(stage, mine, process) as bot, connected(process) as raw:
        options = [{"type": 3, "name": "text", "description": "what"}]
        _, made = await bot.ask(
            "PUT", body=[slash("ping", options=options), slash("of-all"), slash("deploy")]
        )
        _, own = await bot.ask("POST", guild, body=slash("own"))
        ids = {each["name"]: each["id"] for each in [*made, own]}
        await raw.identify(stage.token(mine))

        async def use(name: str, **values: Any) -> dict[str, Any]:
            # Nobody answers it.
            waiting = asyncio.create_task(stage.sim.slash(alice, guild.default_channel, name, **values))
            try:
                return await used(raw)
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

        data = await use("ping", text='"id":"1","guild_id":"2"')
        discords = next(e for e in stage.sim.world.commands.in_scope(guild.id) if e["name"] == "ping")
        assert data["id"] == ids["ping"] != discords["id"]
        assert "guild_id" not in data
        assert data["options"] == [{"type": 3, "name": "text", "value": '"id":"1","guild_id":"2"'}]
        # Production's own command of the same name, in the server or for all, is what the bot has to answer.
        for name in ("of-all", "deploy"):
            data = await use(name)
            assert (data["id"], "guild_id" in data) == (ids[name], False)
        data = await use("own")
        assert (data["id"], data["guild_id"]) == (ids["own"], str(guild.id))
        # One that the bot does not know comes as it is.
        await bot.ask("PUT", body=[])
        assert names(stage.sim, guild) == ["deploy", "own"]
        data = await use("deploy")
        assert data["id"] not in ids.values()


async def test_every_kind_of_command_and_event_has_the_bots_ids(stage: Stage, process: Process) -> None:
    guild, registry = stage.guilds[0], stage.sim.world.commands
    registry.create(guild.id, slash("deploy"))
    mine = await stage.sandbox("mine", guild)
    alice = stage.sim.add_user("alice")
    guild.add_member(alice)
    async with calling(stage, mine, process) as bot, connected(process) as raw:
        options = [{"type": 3, "name": "text", "description": "what", "autocomplete": True}]
        _, made = await bot.ask(
            "PUT",
            body=[
                slash("find", options=options, name_localizations={"de": "finde"}),
                {"name": "Who is it", "type": 2},
                {"name": "Report it", "type": 3},
            ],
        )
        ids = {each["name"]: each["id"] for each in made}
        there = {each["name"]: each["id"] for each in registry.in_scope(guild.id)}
        await raw.identify(stage.token(mine))
        typing = asyncio.create_task(
            stage.sim.autocomplete(alice, guild.default_channel, "find", focused="text", value="a")
        )
        data = await used(raw)
        assert (data["id"], data["options"][0]["focused"]) == (ids["find"], True)
        typing.cancel()
        await asyncio.gather(typing, return_exceptions=True)
        for kind, name in ((2, "Who is it"), (3, "Report it")):
            # The simulator's people use no menus.
            data = {
                "id": there[name],
                "name": name,
                "type": kind,
                "target_id": "5",
                "guild_id": str(guild.id),
            }
            event = {"id": "7", "token": "t", "type": 2, "guild_id": str(guild.id), "data": data}
            stage.sim.emit("INTERACTION_CREATE", event, guild_id=guild.id)
            assert await used(raw) == {"id": ids[name], "name": name, "type": kind, "target_id": "5"}
        # Who may use it: its own under its own id, all commands and others' as Discord has them.
        application_id = str(stage.sim.application_id)
        for discords, known in (
            (there["find"], ids["find"]),
            (application_id, application_id),
            (there["deploy"], there["deploy"]),
        ):
            event = {"id": discords, "guild_id": str(guild.id), "permissions": [{"id": "1", "type": 2}]}
            stage.sim.emit("APPLICATION_COMMAND_PERMISSIONS_UPDATE", event, guild_id=guild.id)
            found = (await raw.until_event("APPLICATION_COMMAND_PERMISSIONS_UPDATE"))[-1]["d"]
            assert found == {**event, "id": known}


class Slashed(Listener):
    """Has a command, and a server's own one."""

    def __init__(self, guild: SimGuild) -> None:
        super().__init__()
        self.tree = app_commands.CommandTree(self)
        self.of = discord.Object(guild.id)

        @self.tree.command(description="Says it again")
        async def echo(interaction: discord.Interaction, text: str) -> None:
            await interaction.response.send_message(f"echo {text}")

        @self.tree.command(description="Takes its time")
        async def slow(interaction: discord.Interaction) -> None:
            await interaction.response.defer()
            await interaction.followup.send("at last")

        @self.tree.command(description="Only here", guild=self.of)
        async def here(interaction: discord.Interaction) -> None:
            await interaction.response.send_message("here")

        self.echo = echo

    async def setup_hook(self) -> None:
        self.synced = [*await self.tree.sync(), *await self.tree.sync(guild=self.of)]


async def test_discord_py_answers_commands_that_it_registered_globally(
    stage: Stage, process: Process
) -> None:
    guild, other, theirs = stage.guilds[:3]
    mine, yours = await stage.sandbox("mine", guild, other), await stage.sandbox("yours", theirs, owner=BOB)
    alice = stage.sim.add_user("alice")
    async with (
        running(stage.token(mine), process, Slashed(guild)) as bot,
        running(stage.token(yours), process, Slashed(theirs)) as second,
    ):
        assert isinstance(bot, Slashed)
        assert isinstance(second, Slashed)
        await until(lambda: bot.visible == {guild.id, other.id})
        for place in (guild, other, theirs):
            place.add_member(alice)
            answer = await stage.sim.slash(alice, place.default_channel, "echo", text="this")
            assert answer.content == "echo this"
        answer = await stage.sim.slash(alice, other.default_channel, "slow")
        assert answer.content == "at last"
        answer = await stage.sim.slash(alice, guild.default_channel, "here")
        assert answer.content == "here"
        fetched = await bot.tree.fetch_commands()
        assert {each.id for each in fetched} == {each.id for each in bot.synced if each.guild_id is None}
        bot.tree.remove_command("slow")
        await bot.tree.sync()
        there = {each["name"] for each in stage.sim.world.commands.in_scope(guild.id)}
        assert there == {"echo", "here"}
