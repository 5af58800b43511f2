"""`sandbox_cogs.sandbox` as an extension of somebody else's bot: everything of theirs keeps working."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import asyncpg
import discord
import pytest
import simcord
from discord import app_commands
from discord.ext import commands
from structlog.testing import capture_logs

from sandbox_cogs._core import CoreNotAttached, acquire_core, core_of, release_core
from sandbox_cogs.sandbox import on_tree_error, sync_commands
from sandbox_core.bootstrap import Core
from sandbox_core.errors import NameTaken
from sandbox_core.settings import SettingsError

from .conftest import DEV_GUILD, embed_of, make_bot

EXTENSION = "sandbox_cogs.sandbox"
DEV = discord.Object(DEV_GUILD)


class Greeter(commands.Cog):
    """The host's own cog: a text command, a slash command and a listener."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @commands.command()
    async def hello(self, ctx: commands.Context[Any]) -> None:
        await ctx.send("hello there")

    @app_commands.command(description="Wave")
    async def wave(self, interaction: discord.Interaction[Any]) -> None:
        await interaction.response.send_message("o/")

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        self.heard.append(message.content)


class HostBot(commands.Bot):
    """Somebody else's bot, with a tree command of its own in the dev guild and its own `on_message`."""

    def __init__(self) -> None:
        intents = discord.Intents.default()
        intents.message_content = True
        super().__init__("!", intents=intents)
        self.seen: list[str] = []
        self.failures: list[app_commands.AppCommandError] = []

    async def setup_hook(self) -> None:
        await self.add_cog(Greeter())
        self.tree.add_command(
            app_commands.Command(name="stats", description="Stats", callback=stats), guild=DEV
        )
        self.tree.on_error = self.on_tree_failure  # type: ignore[method-assign]
        await self.tree.sync()
        await self.tree.sync(guild=DEV)

    async def on_message(self, message: discord.Message) -> None:
        self.seen.append(message.content)
        await self.process_commands(message)

    async def on_tree_failure(
        self, _interaction: discord.Interaction[Any], error: app_commands.AppCommandError
    ) -> None:
        self.failures.append(error)


async def stats(interaction: discord.Interaction[Any]) -> None:
    await interaction.response.send_message("42")


def footprint(bot: commands.Bot) -> dict[str, object]:
    """Everything an extension could leave behind in a bot and in the process."""
    return {
        "attributes": sorted(vars(bot)),
        "cogs": sorted(bot.cogs),
        "extensions": sorted(bot.extensions),
        "text commands": sorted(bot.all_commands),
        "global commands": sorted(command.name for command in bot.tree.get_commands()),
        "guild commands": sorted(command.name for command in bot.tree.get_commands(guild=DEV)),
        "listeners": {event: len(listeners) for event, listeners in bot.extra_events.items() if listeners},
        "buttons": sorted(map(str, bot._connection._view_store._dynamic_items)),
        "views": len(bot.persistent_views),
        "tasks": sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name() == "sandbox-core"),
        "modules": sorted(name for name in sys.modules if name.startswith(EXTENSION)),
    }


@pytest.fixture
def simcord_bot(core: Core) -> HostBot:
    bot = HostBot()
    bot.sandbox_core = core  # type: ignore[attr-defined]
    return bot


@pytest.fixture(autouse=True)
def _same_modules_afterwards() -> Iterator[None]:
    """Unloading an extension forgets its modules; other tests go on with those they imported."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("sandbox_cogs")}
    yield
    sys.modules.update(before)


async def test_loading_reloading_and_unloading_leaves_the_host_as_it_was(
    simcord_env: simcord.Env, simcord_bot: HostBot
) -> None:
    env, bot = simcord_env, simcord_bot
    guild = env.create_guild("Dev", id=DEV_GUILD)
    channel = guild.create_text_channel("general")
    role = guild.create_role("developers", permissions=discord.Permissions(manage_guild=True))
    alice = guild.add_member(env.create_user("alice"), roles=[role])

    async def hosts_own_features_work() -> None:
        greeter = bot.get_cog("Greeter")
        assert isinstance(greeter, Greeter)
        await alice.send(channel, "!hello")
        assert channel.last_message is not None
        assert channel.last_message.content == "hello there"
        assert greeter.heard[-2:] == bot.seen[-2:] == ["!hello", "hello there"]
        waved = await alice.slash(channel, "wave")
        counted = await alice.slash(channel, "stats")
        assert waved.response is not None
        assert counted.response is not None
        assert (waved.response.content, counted.response.content) == ("o/", "42")

    for name in [name for name in sys.modules if name.startswith(EXTENSION)]:
        del sys.modules[name]
    before = footprint(bot)
    await hosts_own_features_work()

    await bot.load_extension(EXTENSION)
    await bot.tree.sync(guild=DEV)
    await hosts_own_features_work()
    created = await alice.slash(channel, "sandbox create", name="plugged-in")
    assert created.response is not None
    assert created.response.embeds[0].title == "Sandbox plugged-in is running"

    await bot.reload_extension(EXTENSION)
    await hosts_own_features_work()
    refused = await alice.slash(channel, "sandbox create", name="plugged-in")
    assert refused.response is not None
    assert refused.response.embeds[0].footer.text == "SANDBOX_001"

    await bot.unload_extension(EXTENSION)
    assert footprint(bot) == before
    await bot.tree.sync(guild=DEV)
    await hosts_own_features_work()
    assert "sandbox create" not in alice.available_commands(channel)
    assert bot.failures == []
    assert core_of(bot) is bot.sandbox_core  # type: ignore[attr-defined]


async def test_syncing_alone_keeps_the_hosts_published_commands(
    simcord_env: simcord.Env, simcord_bot: HostBot
) -> None:
    env, bot = simcord_env, simcord_bot
    await bot.load_extension(EXTENSION)
    for _ in range(2):
        await sync_commands(bot)
        published = [name for name, _ in env.backend.commands[DEV_GUILD]]
        assert sorted(published) == ["sandbox", "stats"]
    await sync_commands(bot, [str(DEV_GUILD + 7)])
    assert [name for name, _ in env.backend.commands[DEV_GUILD + 7]] == ["sandbox"]


async def test_a_host_with_a_sandbox_command_of_its_own_keeps_it(core: Core) -> None:
    bot = make_bot(core)
    theirs: app_commands.Command[Any, ..., Any] = app_commands.Command(
        name="sandbox", description="Theirs", callback=stats
    )
    bot.tree.add_command(theirs, guild=DEV)
    with pytest.raises(commands.ExtensionFailed, match="sandbox"):
        await bot.load_extension(EXTENSION)
    assert bot.tree.get_command("sandbox", guild=DEV) is theirs
    assert EXTENSION not in bot.extensions
    assert list(bot._connection._view_store._dynamic_items) == []


async def test_a_tree_that_is_ours_answers_every_failure_once(
    simcord_env: simcord.Env, simcord_bot: HostBot
) -> None:
    env, bot = simcord_env, simcord_bot

    async def fail(_interaction: discord.Interaction[Any]) -> None:
        raise NameTaken("taken")

    bot.tree.on_error = on_tree_error  # type: ignore[method-assign]
    for name in ("fail", "elsewhere"):
        bot.tree.add_command(app_commands.Command(name=name, description="Fails", callback=fail), guild=DEV)
    await bot.tree.sync(guild=DEV)
    bot.tree.remove_command("elsewhere", guild=DEV)
    guild = env.create_guild("Dev", id=DEV_GUILD)
    channel = guild.create_text_channel("general")
    alice = guild.add_member(env.create_user("alice"))

    failed = await alice.slash(channel, "fail")
    assert failed.ephemeral
    assert failed.response is not None
    assert failed.response.embeds[0].footer.text == "SANDBOX_001"
    assert failed.followups == []

    silent = await alice.slash(channel, "elsewhere")
    assert not silent.acknowledged


async def test_a_failure_that_two_handlers_pass_on_is_answered_once(
    simcord_env: simcord.Env, simcord_bot: HostBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, bot = simcord_env, simcord_bot

    async def refuse(_interaction: discord.Interaction[Any]) -> bool:
        raise app_commands.CheckFailure("not today")

    bot.tree.on_error = on_tree_error  # type: ignore[method-assign]
    await bot.load_extension(EXTENSION)
    await sync_commands(bot)
    monkeypatch.setattr(bot.tree.get_command("sandbox", guild=DEV), "interaction_check", refuse)
    guild = env.create_guild("Dev", id=DEV_GUILD)
    channel = guild.create_text_channel("general")
    role = guild.create_role("developers", permissions=discord.Permissions(manage_guild=True))
    alice = guild.add_member(env.create_user("alice"), roles=[role])

    with capture_logs() as logs:
        failed = await alice.slash(channel, "sandbox list")
    (entry,) = [entry for entry in logs if entry["event"] == "interaction_failed"]
    assert entry["error_id"] in (embed_of(failed).description or "")


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, database_url: str, redis_url: str, nats_url: str
) -> None:
    """The settings of a host: three addresses in the environment and nothing else."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("DATABASE_URL", database_url), ("REDIS_URL", redis_url), ("NATS_URL", nats_url)):
        monkeypatch.setenv(name, value)


async def connections(database_url: str) -> int:
    own = await asyncpg.connect(database_url)
    try:
        count: int = await own.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await own.close()
    return count


async def test_without_a_core_one_is_opened_from_the_environment_and_closed_at_the_end(
    environment: None, database_url: str
) -> None:
    bot = make_bot(None)
    before = footprint(bot) | {"modules": []}
    await bot.load_extension(EXTENSION)
    assert await core_of(bot).manager.list() == []
    assert bot.tree.get_command("sandbox") is not None
    assert await connections(database_url) > 0
    await bot.unload_extension(EXTENSION)
    assert footprint(bot) == before
    assert await connections(database_url) == 0
    with pytest.raises(CoreNotAttached):
        core_of(bot)


async def test_extensions_share_one_core_until_the_last_has_gone(environment: None) -> None:
    bot = make_bot(None)
    first, second = await asyncio.gather(acquire_core(bot, "one"), acquire_core(bot, "two"))
    assert first is second is core_of(bot)
    await release_core(bot, "one")
    await release_core(bot, "one")
    assert await core_of(bot).manager.list() == []
    await release_core(bot, "two")
    with pytest.raises(CoreNotAttached):
        core_of(bot)
    await release_core(bot, "two")


async def test_closing_the_host_closes_the_shared_core(environment: None, database_url: str) -> None:
    bot = make_bot(None)
    await bot.load_extension(EXTENSION)
    await bot.close()
    assert await connections(database_url) == 0


async def test_wrong_settings_stop_the_loading_with_their_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "REDIS_URL", "NATS_URL"):
        monkeypatch.delenv(name, raising=False)
    bot = make_bot(None)
    with pytest.raises(commands.ExtensionFailed) as caught:
        await bot.load_extension(EXTENSION)
    assert isinstance(caught.value.original, SettingsError)
    assert any(problem.startswith("DATABASE_URL is not set") for problem in caught.value.original.problems)
    with pytest.raises(CoreNotAttached):
        core_of(bot)


async def test_a_loading_that_is_cancelled_leaves_nothing(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = make_bot(None)
    before = sorted(vars(bot))
    loading = asyncio.create_task(acquire_core(bot, "one"))
    await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert sorted(vars(bot)) == before
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "sandbox-core"]
