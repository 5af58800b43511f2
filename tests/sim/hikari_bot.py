"""A bot on hikari that notes what it sees. The library takes a second to import: only its tests do."""

from __future__ import annotations

import hikari

from discord_sim import DiscordSim


class Listener:
    """A hikari bot and what it has seen."""

    def __init__(self, sim: DiscordSim) -> None:
        self.contents: list[str | None] = []
        self.direct: list[str | None] = []
        self.resumed = 0
        self.bot = hikari.GatewayBot(
            sim.token,
            rest_url=sim.api_url,
            intents=hikari.Intents.ALL,
            banner=None,
            logs=None,
            suppress_optimization_warning=True,
        )
        self.bot.subscribe(hikari.GuildMessageCreateEvent, self._on_message)
        self.bot.subscribe(hikari.DMMessageCreateEvent, self._on_direct)
        self.bot.subscribe(hikari.ShardResumedEvent, self._on_resumed)
        self.bot.subscribe(hikari.InteractionCreateEvent, self._on_interaction)

    async def _on_message(self, event: hikari.GuildMessageCreateEvent) -> None:
        self.contents.append(event.message.content)

    async def _on_direct(self, event: hikari.DMMessageCreateEvent) -> None:
        if event.is_human:
            self.direct.append(event.message.content)
            await event.message.respond("heard")

    async def _on_resumed(self, _: hikari.ShardResumedEvent) -> None:
        self.resumed += 1

    async def _on_interaction(self, event: hikari.InteractionCreateEvent) -> None:
        interaction = event.interaction
        if isinstance(interaction, hikari.CommandInteraction):
            row = self.bot.rest.build_message_action_row()
            row.add_interactive_button(hikari.ButtonStyle.PRIMARY, "go", label="Go")
            await interaction.create_initial_response(
                hikari.ResponseType.DEFERRED_MESSAGE_CREATE, flags=hikari.MessageFlag.EPHEMERAL
            )
            await interaction.edit_initial_response(
                embed=hikari.Embed(title="Pong", description="from hikari"), component=row
            )
        elif isinstance(interaction, hikari.ComponentInteraction):
            await interaction.create_initial_response(
                hikari.ResponseType.MESSAGE_UPDATE, "gone", embeds=[], components=[]
            )
