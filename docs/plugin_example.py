"""Somebody else's bot with the sandboxes as extensions in it.

    DISCORD_TOKEN=… DISCORD_DEV_GUILD_IDS=… \
    DATABASE_URL=… REDIS_URL=… NATS_URL=… python docs/plugin_example.py

Nothing of the host changes: its text commands, its slash commands and its `on_message` are as they were, but
for servers that are registered for a sandbox, of which they get nothing. The extensions find their settings
in the environment and share one core, which the last of them closes.
"""

from __future__ import annotations

import os

import discord
from discord import app_commands
from discord.ext import commands

EXTENSIONS = (
    "sandbox_cogs.sandbox",  # /sandbox in the dev servers
    "sandbox_cogs.owner",  # the owner's commands in direct messages
    "sandbox_cogs.gateway",  # every event to production or to its sandbox
    "sandbox_cogs.upkeep",  # expired sandboxes go, and their owners are told
)


class Greetings(commands.Cog):
    """The host's own feature."""

    @commands.command()
    async def hello(self, ctx: commands.Context[commands.Bot]) -> None:
        """`!hello`"""
        await ctx.send(f"Hello {ctx.author.display_name}")

    @app_commands.command(description="Wave at everybody")
    async def wave(self, interaction: discord.Interaction) -> None:
        """`/wave`"""
        await interaction.response.send_message("o/")


class CommunityBot(commands.Bot):
    """The host: it counts messages, and knew nothing of sandboxes until today."""

    def __init__(self) -> None:
        intents = discord.Intents.default()
        intents.message_content = True
        super().__init__(command_prefix="!", intents=intents)
        self.messages = 0

    async def setup_hook(self) -> None:
        """Runs once, after the login and before the first event."""
        await self.add_cog(Greetings())
        await self.tree.sync()
        for extension in EXTENSIONS:
            await self.load_extension(extension)
        # Publishes /sandbox in the dev servers and leaves the other commands there alone. A host that
        # syncs its own tree for these servers does not need it.
        from sandbox_cogs.sandbox import sync_commands  # noqa: PLC0415

        await sync_commands(self)

    async def on_message(self, message: discord.Message) -> None:
        """As in any bot that has one."""
        self.messages += 1
        await self.process_commands(message)


def main() -> None:
    """Run until the process is stopped."""
    CommunityBot().run(os.environ["DISCORD_TOKEN"])


if __name__ == "__main__":
    main()
