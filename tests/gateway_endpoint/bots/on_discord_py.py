"""An ordinary bot on discord.py. Nothing in it knows of sandboxes."""

from __future__ import annotations

import os
import sys

import discord
from discord import app_commands


class Bot(discord.Client):
    def __init__(self) -> None:
        intents = discord.Intents.default()
        intents.message_content = True
        super().__init__(intents=intents, guild_ready_timeout=1.0)
        self.tree = app_commands.CommandTree(self)

    async def setup_hook(self) -> None:
        await self.tree.sync()

    async def on_ready(self) -> None:
        say("ready", *sorted(str(guild.id) for guild in self.guilds))

    async def on_message(self, message: discord.Message) -> None:
        if message.content == "ping":
            await message.channel.send("pong")
        elif message.content.startswith("elsewhere "):
            try:
                await self.http.send_message(int(message.content.split()[1]), params=text("hello"))
            except discord.Forbidden as error:
                say("refused", str(error.status), str(error.code))


def text(content: str) -> discord.http.MultipartParameters:
    return discord.http.handle_message_parameters(content=content)


def say(*words: str) -> None:
    print(*words, flush=True)


bot = Bot()


@bot.tree.command(description="Says it again")
async def echo(interaction: discord.Interaction, text: str) -> None:
    await interaction.response.send_message(f"echo {text}")


bot.run(os.environ[sys.argv[1] if len(sys.argv) > 1 else "DISCORD_TOKEN"])
