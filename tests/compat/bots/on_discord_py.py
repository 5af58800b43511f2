"""An ordinary bot on discord.py. Nothing in it knows of sandboxes."""

from __future__ import annotations

import io
import os
import sys

import discord
from discord import app_commands


def say(*words: object) -> None:
    print(*words, flush=True)


class Form(discord.ui.Modal, title="A form"):
    text: discord.ui.TextInput[Form] = discord.ui.TextInput(label="Text", custom_id="text")

    async def on_submit(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message(f"form {self.text.value}")


class Ask(discord.ui.View):
    @discord.ui.button(label="Open", custom_id="open")
    async def open(self, interaction: discord.Interaction, button: discord.ui.Button[Ask]) -> None:
        await interaction.response.send_modal(Form())


class Bot(discord.Client):
    def __init__(self) -> None:
        intents = discord.Intents.default()
        intents.message_content = intents.members = True
        super().__init__(intents=intents, guild_ready_timeout=1.0)
        self.tree = app_commands.CommandTree(self)

    async def setup_hook(self) -> None:
        await self.tree.sync()

    async def on_ready(self) -> None:
        say("ready", *sorted(str(guild.id) for guild in self.guilds))

    async def on_resumed(self) -> None:
        say("resumed")

    async def on_message(self, message: discord.Message) -> None:
        word, _, rest = message.content.partition(" ")
        if word == "ping":
            await message.channel.send("pong")
        elif word == "event":
            say("saw", rest)
        elif word == "file":
            await message.channel.send(file=discord.File(io.BytesIO(b"from the bot"), "notes.txt"))
        elif word == "members" and message.guild is not None:
            if not message.guild.chunked:
                await message.guild.chunk()
            say("members", len(message.guild.members))
        elif word == "elsewhere":
            try:
                await self.http.send_message(int(rest), params=text("hello"))
            except discord.Forbidden as error:
                say("refused", error.status, error.code)


def text(content: str) -> discord.http.MultipartParameters:
    return discord.http.handle_message_parameters(content=content)


bot = Bot()


@bot.tree.command(description="Says it again")
async def echo(interaction: discord.Interaction, text: str) -> None:
    await interaction.response.send_message(f"echo {text}")


@bot.tree.command(description="Takes its time")
async def slow(interaction: discord.Interaction) -> None:
    await interaction.response.defer()
    await interaction.followup.send("at last")


@bot.tree.command(description="Asks with a button and a form")
async def ask(interaction: discord.Interaction) -> None:
    await interaction.response.send_message("Yes?", view=Ask())


bot.run(os.environ[sys.argv[1] if len(sys.argv) > 1 else "DISCORD_TOKEN"])
