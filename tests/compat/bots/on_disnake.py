"""An ordinary bot on disnake. Nothing in it knows of sandboxes."""

import io
import os
import sys

import disnake
from disnake.ext import commands

intents = disnake.Intents.default()
intents.message_content = intents.members = True
bot = commands.InteractionBot(intents=intents)


def say(*words: object) -> None:
    print(*words, flush=True)


class Form(disnake.ui.Modal):
    def __init__(self) -> None:
        super().__init__(title="A form", components=disnake.ui.TextInput(label="Text", custom_id="text"))

    async def callback(self, interaction: disnake.ModalInteraction) -> None:
        await interaction.response.send_message(f"form {interaction.text_values['text']}")


class Ask(disnake.ui.View):
    @disnake.ui.button(label="Open", custom_id="open")
    async def open(self, button: disnake.ui.Button, interaction: disnake.MessageInteraction) -> None:
        await interaction.response.send_modal(Form())


@bot.slash_command(description="Says it again")
async def echo(interaction: disnake.ApplicationCommandInteraction, text: str) -> None:
    await interaction.response.send_message(f"echo {text}")


@bot.slash_command(description="Takes its time")
async def slow(interaction: disnake.ApplicationCommandInteraction) -> None:
    await interaction.response.defer()
    await interaction.followup.send("at last")


@bot.slash_command(description="Asks with a button and a form")
async def ask(interaction: disnake.ApplicationCommandInteraction) -> None:
    await interaction.response.send_message("Yes?", view=Ask())


@bot.event
async def on_ready() -> None:
    say("ready", *sorted(str(guild.id) for guild in bot.guilds))


@bot.event
async def on_resumed() -> None:
    say("resumed")


@bot.event
async def on_message(message: disnake.Message) -> None:
    word, _, rest = message.content.partition(" ")
    if word == "ping":
        await message.channel.send("pong")
    elif word == "event":
        say("saw", rest)
    elif word == "file":
        await message.channel.send(file=disnake.File(io.BytesIO(b"from the bot"), "notes.txt"))
    elif word == "members":
        if not message.guild.chunked:
            await message.guild.chunk()
        say("members", len(message.guild.members))
    elif word == "elsewhere":
        try:
            await bot.http.send_message(int(rest), "hello")
        except disnake.Forbidden as error:
            say("refused", error.status, error.code)


bot.run(os.environ[sys.argv[1] if len(sys.argv) > 1 else "DISCORD_TOKEN"])
