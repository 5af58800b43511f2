"""An ordinary bot on interactions.py. Nothing in it knows of sandboxes."""

import io
import os
import sys

import interactions
from interactions.api.events import MessageCreate, Resume, WebsocketReady

intents = interactions.Intents.DEFAULT
intents |= interactions.Intents.MESSAGE_CONTENT | interactions.Intents.GUILD_MEMBERS
bot = interactions.Client(intents=intents)


def say(*words: object) -> None:
    print(*words, flush=True)


@interactions.slash_command(description="Says it again")
@interactions.slash_option("text", "what", interactions.OptionType.STRING, required=True)
async def echo(ctx: interactions.SlashContext, text: str) -> None:
    await ctx.send(f"echo {text}")


@interactions.slash_command(description="Takes its time")
async def slow(ctx: interactions.SlashContext) -> None:
    await ctx.defer()
    await ctx.send("at last")


@interactions.slash_command(description="Asks with a button and a form")
async def ask(ctx: interactions.SlashContext) -> None:
    button = interactions.Button(style=interactions.ButtonStyle.PRIMARY, label="Open", custom_id="open")
    await ctx.send("Yes?", components=button)


@interactions.component_callback("open")
async def opened(ctx: interactions.ComponentContext) -> None:
    text = interactions.ShortText(label="Text", custom_id="text")
    await ctx.send_modal(interactions.Modal(text, title="A form", custom_id="form"))


@interactions.modal_callback("form")
async def filled(ctx: interactions.ModalContext, text: str) -> None:
    await ctx.send(f"form {text}")


@interactions.listen(WebsocketReady)
async def ready(event: WebsocketReady) -> None:
    say("ready", *sorted(guild["id"] for guild in event.data["guilds"]))


@interactions.listen(Resume)
async def resumed(event: Resume) -> None:
    say("resumed")


@interactions.listen(MessageCreate)
async def written(event: MessageCreate) -> None:
    message = event.message
    word, _, rest = message.content.partition(" ")
    if word == "ping":
        await message.channel.send("pong")
    elif word == "event":
        say("saw", rest)
    elif word == "file":
        await message.channel.send(file=interactions.File(io.BytesIO(b"from the bot"), "notes.txt"))
    elif word == "members":
        await message.guild.chunk()
        say("members", len(message.guild.members))
    elif word == "elsewhere":
        try:
            await bot.http.create_message({"content": "hello"}, int(rest))
        except interactions.errors.Forbidden as error:
            say("refused", error.status, error.code)


bot.start(os.environ[sys.argv[1] if len(sys.argv) > 1 else "DISCORD_TOKEN"])
