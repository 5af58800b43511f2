"""An ordinary bot that a sandbox runs as it is, but for two lines that say where Discord is.

sandboxctl exec NAME -- python docs/client_example.py
"""

from __future__ import annotations

import os

import discord
import yarl

if "DISCORD_GATEWAY_URL" in os.environ:
    discord.http.Route.BASE = os.environ["DISCORD_API_URL"]
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(os.environ["DISCORD_GATEWAY_URL"])


class Parrot(discord.Client):
    """Answers every ping."""

    async def on_message(self, message: discord.Message) -> None:
        """Answer in the same channel."""
        if message.content == "ping":
            await message.channel.send("pong")


if __name__ == "__main__":
    intents = discord.Intents.default()
    intents.message_content = True
    Parrot(intents=intents).run(os.environ["DISCORD_TOKEN"])
