"""A small bot with one of everything that the simulator's people can use."""

from __future__ import annotations

import io

import discord
from discord import app_commands

Interaction = discord.Interaction[discord.Client]

GUILD_WAIT = 0.05
"""Seconds discord.py waits for one more GUILD_CREATE before it says it is ready; 2 by default."""


class Buttons(discord.ui.View):
    """Two buttons, a select menu and a button that opens a form."""

    @discord.ui.button(label="Confirm", custom_id="confirm")
    async def confirm(self, interaction: Interaction, _: discord.ui.Button[Buttons]) -> None:
        await interaction.response.edit_message(content="confirmed", view=None)

    @discord.ui.button(label="Later", custom_id="later")
    async def later(self, interaction: Interaction, _: discord.ui.Button[Buttons]) -> None:
        await interaction.response.defer()
        await interaction.edit_original_response(content="edited later")

    @discord.ui.button(label="Ask", custom_id="ask")
    async def ask(self, interaction: Interaction, _: discord.ui.Button[Buttons]) -> None:
        await interaction.response.send_modal(Form())

    @discord.ui.button(label="Off", custom_id="off", disabled=True)
    async def off(self, interaction: Interaction, _: discord.ui.Button[Buttons]) -> None:
        raise AssertionError("a disabled button can't be pressed")

    @discord.ui.select(custom_id="pick", options=[discord.SelectOption(label="One", value="1")], max_values=1)
    async def pick(self, interaction: Interaction, select: discord.ui.Select[Buttons]) -> None:
        await interaction.response.send_message(f"picked {select.values}", ephemeral=True)


class Form(discord.ui.Modal, title="Rename"):
    """A form with one required field."""

    name: discord.ui.TextInput[Form] = discord.ui.TextInput(label="Name", custom_id="name")

    async def on_submit(self, interaction: Interaction) -> None:
        await interaction.response.send_message(f"renamed to {self.name.value}")


class ExampleMixin(discord.Client):
    """Commands and listeners, for the plain and the sharded client."""

    tree: app_commands.CommandTree[discord.Client]

    def prepare(self, guild_id: int) -> None:
        """Say where to sync, and start counting."""
        self.guild_id = guild_id
        self.messages: list[discord.Message] = []
        self.resumed = 0
        self.tree = app_commands.CommandTree(self)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Leave out the five seconds that discord.py waits; the simulator only counts them."""

    async def setup_hook(self) -> None:
        target = discord.Object(self.guild_id)
        self.tree.add_command(_group(), guild=target)
        self.tree.add_command(_types, guild=target)
        await self.tree.sync(guild=target)

    async def on_resumed(self) -> None:
        self.resumed += 1

    async def on_message(self, message: discord.Message) -> None:
        self.messages.append(message)
        if message.guild is None and message.author != self.user:
            await message.channel.send(f"you said {message.content}")

    @property
    def contents(self) -> list[str]:
        """What has been written, in order."""
        return [m.content for m in self.messages]


class PlainBot(ExampleMixin):
    """One shard."""

    def __init__(self, guild_id: int, *, intents: discord.Intents | None = None) -> None:
        super().__init__(intents=intents or discord.Intents.all(), guild_ready_timeout=GUILD_WAIT)
        self.prepare(guild_id)


class ShardedBot(ExampleMixin, discord.AutoShardedClient):
    """Two shards."""

    def __init__(self, guild_id: int) -> None:
        super().__init__(intents=discord.Intents.all(), shard_count=2, guild_ready_timeout=GUILD_WAIT)
        self.prepare(guild_id)


def _group() -> app_commands.Group:
    group = app_commands.Group(
        name="sandbox", description="Sandboxes", default_permissions=discord.Permissions(manage_guild=True)
    )

    @group.command(description="Make one")
    @app_commands.describe(name="Its name", hours="How long it lives")
    async def create(
        interaction: Interaction, name: str, hours: app_commands.Range[int, 1, 168] = 24
    ) -> None:
        await interaction.response.defer(ephemeral=True)
        embed = discord.Embed(title=f"Made {name}", description="It is running", colour=0x00FF00)
        embed.add_field(name="Hours", value=str(hours))
        embed.set_footer(text="by the sandbox bot")
        await interaction.followup.send(embed=embed, view=Buttons(timeout=None))
        await interaction.followup.send("one more", ephemeral=True)

    @create.autocomplete("name")
    async def complete(_: Interaction, current: str) -> list[app_commands.Choice[str]]:
        return [app_commands.Choice(name=f"{current}-{n}", value=f"{current}{n}") for n in range(2)]

    @group.command(description="Say where")
    async def connect(interaction: Interaction) -> None:
        file = discord.File(io.BytesIO(b"SANDBOX_ID=1\n"), "sandbox.env", description="settings")
        await interaction.response.send_message("see the file", file=file)

    @group.command(description="Never answers")
    async def hang(_: Interaction) -> None:
        return

    @group.command(description="Defers and never answers")
    async def stall(interaction: Interaction) -> None:
        await interaction.response.defer()

    @group.command(description="Answers twice")
    async def twice(interaction: Interaction) -> None:
        await interaction.response.send_message("first")
        original = await interaction.original_response()
        await original.edit(content="changed")
        await interaction.followup.send("second")
        await interaction.delete_original_response()

    return group


@app_commands.command(name="types", description="Every option type")
@app_commands.choices(colour=[app_commands.Choice(name="Red", value="r")])
async def _types(
    interaction: Interaction,
    text: str,
    whole: int,
    yes: bool,
    who: discord.Member,
    where: discord.TextChannel,
    role: discord.Role,
    real: float,
    either: discord.Member | discord.Role,
    file: discord.Attachment,
    colour: str,
) -> None:
    content = (await file.read()).decode()
    may = who.resolved_permissions is not None and who.resolved_permissions.manage_guild
    await interaction.response.send_message(
        f"{text} {whole} {yes} {who.name} {may} {where.name} {role.name} "
        f"{real} {either.name} {content} {colour}"
    )
