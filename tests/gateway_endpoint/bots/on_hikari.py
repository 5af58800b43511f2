"""An ordinary bot on hikari. Nothing in it knows of sandboxes."""

from __future__ import annotations

import os
import sys

import hikari

bot = hikari.GatewayBot(
    os.environ[sys.argv[1] if len(sys.argv) > 1 else "DISCORD_TOKEN"],
    intents=hikari.Intents.ALL_UNPRIVILEGED | hikari.Intents.MESSAGE_CONTENT,
    banner=None,
)
seen: set[int] = set()


def say(*words: str) -> None:
    print(*words, flush=True)


@bot.listen()
async def started(event: hikari.StartedEvent) -> None:
    application = await bot.rest.fetch_application()
    command = bot.rest.slash_command_builder("echo", "Says it again").add_option(
        hikari.CommandOption(type=hikari.OptionType.STRING, name="text", description="what", is_required=True)
    )
    await bot.rest.set_application_commands(application.id, [command])


@bot.listen()
async def ready(event: hikari.ShardReadyEvent) -> None:
    say("ready", *sorted(map(str, event.unavailable_guilds)))


@bot.listen()
async def used(event: hikari.InteractionCreateEvent) -> None:
    interaction = event.interaction
    if isinstance(interaction, hikari.CommandInteraction) and interaction.options:
        known = await bot.rest.fetch_application_command(interaction.application_id, interaction.command_id)
        await interaction.create_initial_response(
            hikari.ResponseType.MESSAGE_CREATE, f"{known.name} {interaction.options[0].value}"
        )


@bot.listen()
async def message(event: hikari.GuildMessageCreateEvent) -> None:
    if event.content == "ping":
        await bot.rest.create_message(event.channel_id, "pong")
    elif event.content and event.content.startswith("elsewhere "):
        try:
            await bot.rest.create_message(int(event.content.split()[1]), "hello")
        except hikari.ForbiddenError as error:
            say("refused", str(int(error.status)), str(error.code))


bot.run(check_for_updates=False)
