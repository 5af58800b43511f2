"""An ordinary bot on disnake. Nothing in it knows of sandboxes."""

import os
import sys

import disnake
from disnake.ext import commands

intents = disnake.Intents.default()
intents.message_content = True
bot = commands.InteractionBot(intents=intents)


def say(*words: str) -> None:
    print(*words, flush=True)


@bot.slash_command(description="Says it again")
async def echo(interaction: disnake.ApplicationCommandInteraction, text: str) -> None:
    await interaction.response.send_message(f"echo {text}")


@bot.event
async def on_ready() -> None:
    say("ready", *sorted(str(guild.id) for guild in bot.guilds))


@bot.event
async def on_message(message: disnake.Message) -> None:
    if message.content == "ping":
        await message.channel.send("pong")
    elif message.content.startswith("elsewhere "):
        try:
            await bot.http.send_message(int(message.content.split()[1]), "hello")
        except disnake.Forbidden as error:
            say("refused", str(error.status), str(error.code))


bot.run(os.environ[sys.argv[1] if len(sys.argv) > 1 else "DISCORD_TOKEN"])
