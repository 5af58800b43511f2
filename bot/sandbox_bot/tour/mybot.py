"""An ordinary bot on discord.py, with a new greeting. Nothing in it knows of sandboxes."""

from __future__ import annotations

import os

import discord


class Greeter(discord.Client):
    """Greets whoever says hello."""

    async def on_ready(self) -> None:
        """Say that it runs."""
        print("ready", flush=True)  # noqa: T201 (the tour waits for it)

    async def on_message(self, message: discord.Message) -> None:
        """Answer in the same channel."""
        if message.content == "hello":
            await message.channel.send(f"Hello {message.author.name}, how is the new login?")


if __name__ == "__main__":
    intents = discord.Intents.default()
    intents.message_content = True
    # One server is there at once: no need to wait for more.
    Greeter(intents=intents, guild_ready_timeout=0.2).run(os.environ["DISCORD_TOKEN"])
