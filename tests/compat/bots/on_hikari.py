"""An ordinary bot on hikari. Nothing in it knows of sandboxes."""

from __future__ import annotations

import os
import sys

import hikari

bot = hikari.GatewayBot(
    os.environ[sys.argv[1] if len(sys.argv) > 1 else "DISCORD_TOKEN"],
    intents=hikari.Intents.ALL_UNPRIVILEGED | hikari.Intents.MESSAGE_CONTENT | hikari.Intents.GUILD_MEMBERS,
    banner=None,
)


def say(*words: object) -> None:
    print(*words, flush=True)


@bot.listen()
async def started(event: hikari.StartedEvent) -> None:
    application = await bot.rest.fetch_application()
    text = hikari.CommandOption(
        type=hikari.OptionType.STRING, name="text", description="what", is_required=True
    )
    await bot.rest.set_application_commands(
        application.id,
        [
            bot.rest.slash_command_builder("echo", "Says it again").add_option(text),
            bot.rest.slash_command_builder("slow", "Takes its time"),
            bot.rest.slash_command_builder("ask", "Asks with a button and a form"),
        ],
    )


@bot.listen()
async def ready(event: hikari.ShardReadyEvent) -> None:
    say("ready", *sorted(map(str, event.unavailable_guilds)))


@bot.listen()
async def resumed(event: hikari.ShardResumedEvent) -> None:
    say("resumed")


@bot.listen()
async def used(event: hikari.InteractionCreateEvent) -> None:
    interaction = event.interaction
    if isinstance(interaction, hikari.CommandInteraction):
        await answer(interaction)
    elif isinstance(interaction, hikari.ComponentInteraction):
        row = bot.rest.build_modal_action_row().add_text_input("text", "Text")
        await interaction.create_modal_response("A form", "form", component=row)
    elif isinstance(interaction, hikari.ModalInteraction):
        value = interaction.components[0][0].value
        await interaction.create_initial_response(hikari.ResponseType.MESSAGE_CREATE, f"form {value}")


async def answer(interaction: hikari.CommandInteraction) -> None:
    # Under the id in the event there is the command that this bot has registered.
    known = await bot.rest.fetch_application_command(interaction.application_id, interaction.command_id)
    if known.name == "echo" and interaction.options:
        text = f"echo {interaction.options[0].value}"
        await interaction.create_initial_response(hikari.ResponseType.MESSAGE_CREATE, text)
    elif known.name == "slow":
        await interaction.create_initial_response(hikari.ResponseType.DEFERRED_MESSAGE_CREATE)
        await interaction.execute("at last")
    elif known.name == "ask":
        row = bot.rest.build_message_action_row()
        row.add_interactive_button(hikari.ButtonStyle.PRIMARY, "open", label="Open")
        await interaction.create_initial_response(hikari.ResponseType.MESSAGE_CREATE, "Yes?", component=row)


@bot.listen()
async def message(event: hikari.GuildMessageCreateEvent) -> None:
    word, _, rest = (event.content or "").partition(" ")
    if word == "ping":
        await bot.rest.create_message(event.channel_id, "pong")
    elif word == "event":
        say("saw", rest)
    elif word == "file":
        file = hikari.Bytes(b"from the bot", "notes.txt")
        await bot.rest.create_message(event.channel_id, attachment=file)
    elif word == "members":
        await bot.request_guild_members(event.guild_id, limit=0, query="", nonce="all")
    elif word == "elsewhere":
        try:
            await bot.rest.create_message(int(rest), "hello")
        except hikari.ForbiddenError as error:
            say("refused", int(error.status), error.code)


seen: set[int] = set()


@bot.listen()
async def members(event: hikari.MemberChunkEvent) -> None:
    if event.nonce == "all":
        seen.update(event.members)
        if event.chunk_index == event.chunk_count - 1:
            say("members", len(seen))


bot.run(check_for_updates=False)
