"""An ordinary bot on py-cord. Nothing in it knows of sandboxes."""

import io
import os
import sys

import discord

intents = discord.Intents.default()
intents.message_content = intents.members = True
bot = discord.Bot(intents=intents)


def say(*words: object) -> None:
    print(*words, flush=True)


class Form(discord.ui.Modal):
    def __init__(self) -> None:
        super().__init__(title="A form")
        self.add_item(discord.ui.InputText(label="Text", custom_id="text"))

    async def callback(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message(f"form {self.children[0].value}")


class Ask(discord.ui.View):
    @discord.ui.button(label="Open", custom_id="open")
    async def open(self, button: discord.ui.Button, interaction: discord.Interaction) -> None:
        await interaction.response.send_modal(Form())


@bot.slash_command(description="Says it again")
async def echo(ctx: discord.ApplicationContext, text: str) -> None:
    await ctx.respond(f"echo {text}")


@bot.slash_command(description="Takes its time")
async def slow(ctx: discord.ApplicationContext) -> None:
    await ctx.defer()
    await ctx.followup.send("at last")


@bot.slash_command(description="Asks with a button and a form")
async def ask(ctx: discord.ApplicationContext) -> None:
    await ctx.respond("Yes?", view=Ask())


@bot.event
async def on_ready() -> None:
    say("ready", *sorted(str(guild.id) for guild in bot.guilds))


@bot.event
async def on_resumed() -> None:
    say("resumed")


@bot.event
async def on_message(message: discord.Message) -> None:
    word, _, rest = message.content.partition(" ")
    if word == "ping":
        await message.channel.send("pong")
    elif word == "event":
        say("saw", rest)
    elif word == "file":
        await message.channel.send(file=discord.File(io.BytesIO(b"from the bot"), "notes.txt"))
    elif word == "members":
        if not message.guild.chunked:
            await message.guild.chunk()
        say("members", len(message.guild.members))
    elif word == "elsewhere":
        try:
            await bot.http.send_message(int(rest), "hello")
        except discord.Forbidden as error:
            say("refused", error.status, error.code)


bot.run(os.environ[sys.argv[1] if len(sys.argv) > 1 else "DISCORD_TOKEN"])
