"""A production bot with something of every kind that can hear of an event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from discord_sim import DiscordSim, SimGuild, SimUser
from sandbox_core.bootstrap import Core
from sandbox_core.models import Actor, GuildAccess
from tests.event_path.conftest import until

ALICE = Actor("200000000000000001", "Alice", is_bot_owner=True)
OF_THE_CONNECTION = frozenset(
    {"connect", "ready", "resumed", "disconnect", "shard_connect", "shard_ready", "shard_resumed"}
)


class Choice(discord.ui.View):
    """A persistent view."""

    def __init__(self) -> None:
        super().__init__(timeout=None)

    @discord.ui.button(label="Press", custom_id="host:press")
    async def press(self, interaction: discord.Interaction[Any], _button: Any) -> None:
        note(interaction, "button")
        await interaction.response.send_message("pressed")

    @discord.ui.button(label="Form", custom_id="host:form")
    async def form(self, interaction: discord.Interaction[Any], _button: Any) -> None:
        note(interaction, "button that opens a form")
        await interaction.response.send_modal(Form())

    @discord.ui.select(
        custom_id="host:choose",
        options=[discord.SelectOption(label="One"), discord.SelectOption(label="Two")],
    )
    async def choose(self, interaction: discord.Interaction[Any], _select: Any) -> None:
        note(interaction, "select menu")
        await interaction.response.send_message("chosen")


class Form(discord.ui.Modal, title="Form"):
    """A form."""

    field: discord.ui.TextInput[Form] = discord.ui.TextInput(label="Field", custom_id="host:field")

    async def on_submit(self, interaction: discord.Interaction[Any]) -> None:
        note(interaction, "form")
        await interaction.response.send_message("submitted")


class Dynamic(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"host:dynamic:(?P<number>\d+)"):
    """A button that is recognised by its id."""

    @classmethod
    async def from_custom_id(cls, _interaction: Any, item: Any, _match: Any) -> Dynamic:
        return cls(item)

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        note(interaction, "dynamic item")
        await interaction.response.send_message("dynamic")


def note(interaction: discord.Interaction[Any], what: str) -> None:
    interaction.client.told.append((what, guild_of(interaction)))


def guild_of(thing: Any) -> int | None:
    return thing.guild.id if getattr(thing, "guild", None) is not None else None


class Features(commands.Cog):
    """Listeners, commands and a waiting task."""

    def __init__(self, bot: HostBot) -> None:
        self.bot = bot

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        self.bot.told.append(("cog listener", guild_of(message)))

    @commands.Cog.listener()
    async def on_raw_reaction_add(self, payload: discord.RawReactionActionEvent) -> None:
        self.bot.told.append(("raw reaction", payload.guild_id))

    @commands.Cog.listener()
    async def on_interaction(self, interaction: discord.Interaction[Any]) -> None:
        note(interaction, "interaction listener")

    @commands.Cog.listener()
    async def on_app_command_completion(self, interaction: discord.Interaction[Any], _command: Any) -> None:
        note(interaction, "completion listener")

    @commands.Cog.listener()
    async def on_socket_raw_receive(self, text: str) -> None:
        frame = json.loads(text)
        guild_id = (frame["d"] or {}).get("guild_id") if isinstance(frame["d"], dict) else None
        self.bot.told.append(("raw frame", None if guild_id is None else int(guild_id)))

    @commands.command()
    async def ping(self, ctx: commands.Context[Any]) -> None:
        self.bot.told.append(("prefix command", guild_of(ctx)))
        await ctx.send("pong")

    @app_commands.command(description="Greet")
    async def hello(self, interaction: discord.Interaction[Any]) -> None:
        note(interaction, "slash command")
        await interaction.response.send_message("hi", ephemeral=True)


class HostBot(commands.Bot):
    """`told` is what its features were told; `dispatched` is what it was asked to dispatch."""

    def __init__(self, *, debug: bool = True, intents: discord.Intents | None = None, **options: Any) -> None:
        super().__init__(
            command_prefix="!",
            intents=intents or discord.Intents.all(),
            help_command=None,
            guild_ready_timeout=0.2,
            enable_debug_events=debug,
            **options,
        )
        self.told: list[tuple[str, int | None]] = []
        self.dispatched: list[str] = []
        self.texts: list[str] = []
        self.ids: list[int] = []
        self.waiting: asyncio.Task[None] | None = None
        self.connection: asyncio.Task[None] | None = None

    async def setup_hook(self) -> None:
        await self.add_cog(Features(self))
        for kind, what in ((discord.Message, "message menu"), (discord.User, "user menu")):
            self.tree.add_command(app_commands.ContextMenu(name=what, callback=_menu(kind, what)))
        self.add_view(Choice())
        self.add_dynamic_items(Dynamic)
        self.waiting = asyncio.create_task(self.wait_for_ever())

    async def wait_for_ever(self) -> None:
        """`wait_for` until the bot ends."""
        while True:
            message = await self.wait_for("message")
            self.told.append(("wait_for", guild_of(message)))

    def dispatch(self, event_name: str, /, *args: Any, **kwargs: Any) -> None:
        if event_name not in OF_THE_CONNECTION and not event_name.startswith("socket_raw_send"):
            self.dispatched.append(event_name)
        super().dispatch(event_name, *args, **kwargs)

    async def on_message(self, message: discord.Message) -> None:
        self.told.append(("on_message", guild_of(message)))
        self.texts.append(message.content)
        self.ids.append(message.id)
        await self.process_commands(message)

    def forget(self) -> None:
        """Begin to listen anew."""
        for heard in (self.told, self.dispatched, self.texts, self.ids):
            heard.clear()

    def heard_in(self, guild: SimGuild) -> set[str]:
        """Which of its features were told something of the guild."""
        return {what for what, guild_id in self.told if guild_id == guild.id}


def _menu(kind: type, what: str) -> Any:
    async def menu(interaction: discord.Interaction[Any], target: Any) -> None:
        note(interaction, what)

    menu.__annotations__["target"] = kind
    menu.__annotations__["interaction"] = discord.Interaction
    return menu


@asynccontextmanager
async def connected(bot: commands.Bot, *extensions: str) -> AsyncIterator[None]:
    """The bot, logged in, with the extensions loaded, and then connected."""
    async with bot:
        await bot.login("sim-token")
        for extension in extensions:
            await bot.load_extension(extension)
        connection = asyncio.create_task(bot.connect())
        if isinstance(bot, HostBot):
            bot.connection = connection
        try:
            async with asyncio.timeout(60):
                await bot.wait_until_ready()
            core: Core | None = getattr(bot, "sandbox_core", None)
            if core is not None:
                # Before, what comes of a guild waits.
                await until(lambda: core.routes.current_table is not None)
            yield
        finally:
            if isinstance(bot, HostBot) and bot.waiting is not None:
                bot.waiting.cancel()
            await bot.close()
            await asyncio.gather(connection, return_exceptions=True)


def core_of(bot: Any) -> Core:
    core: Core = bot.sandbox_core
    return core


async def register(core: Core, guild: SimGuild, name: str = "box", *, in_time: bool = True) -> None:
    """Its events go to a sandbox when this returns, or soon, where the switch need not be `in_time`."""
    if not [sandbox for sandbox in await core.manager.list() if sandbox.name == name]:
        await core.manager.create(ALICE, name=name)
    access = GuildAccess(str(guild.id), bot_is_member=True, caller_manages=True)
    unconfirmed = (await core.manager.register_guild(ALICE, name, access)).unconfirmed
    assert not (in_time and unconfirmed)


async def unregister(core: Core, guild: SimGuild, *, in_time: bool = True) -> None:
    """Its events go to production when this returns, or soon, where the switch need not be `in_time`."""
    access = GuildAccess(str(guild.id), bot_is_member=True, caller_manages=True)
    unconfirmed = (await core.manager.unregister_guild(ALICE, access)).unconfirmed
    assert not (in_time and unconfirmed)


async def everything_came(sim: DiscordSim, *bots: HostBot) -> None:
    """All that was sent so far has come: a direct message behind it was heard."""
    text = f"marker {sim.world.snowflakes.next()}"
    user: SimUser = sim.owner
    await sim.dm(user, text, count=0)
    for bot in bots:
        await until(lambda bot=bot: text in bot.texts or bot.connection.done())  # type: ignore[misc]
        if bot.connection is not None and bot.connection.done():
            await bot.connection
