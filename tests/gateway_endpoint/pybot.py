"""An ordinary bot on discord.py, and what it has seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discord
import yarl

from .stage import Addresses

__all__ = ["Addresses", "Listener", "point_at", "running"]


def point_at(process: Addresses) -> None:
    """Point the library at the endpoint, as a start-up file does."""
    discord.http.Route.BASE = process.api_url
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(process.gateway_url)


class Listener(discord.Client):
    """Notes what it sees."""

    def __init__(self, intents: discord.Intents | None = None) -> None:
        super().__init__(intents=intents or discord.Intents.all(), guild_ready_timeout=0.3)
        self.contents: list[str] = []
        self.seen: list[str] = []
        self.resumed = 0
        self.identified = 0
        self.ready = asyncio.Event()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Leave out the five seconds that discord.py waits; the limit is the endpoint's."""
        self.identified += 1

    async def on_ready(self) -> None:
        self.ready.set()

    async def on_resumed(self) -> None:
        self.resumed += 1

    async def on_message(self, message: discord.Message) -> None:
        self.contents.append(message.content)
        if message.content == "ping":
            await message.channel.send("pong")

    async def on_guild_available(self, guild: discord.Guild) -> None:
        self.seen.append(f"available {guild.id}")

    async def on_guild_unavailable(self, guild: discord.Guild) -> None:
        self.seen.append(f"unavailable {guild.id}")

    @property
    def visible(self) -> set[int]:
        """The servers that it can see."""
        return {guild.id for guild in self.guilds if not guild.unavailable}

    def cut(self) -> None:
        """Lose the connection as a broken network does."""
        self.ws.socket._response.connection.transport.abort()  # type: ignore[union-attr]


@asynccontextmanager
async def running(token: str, process: Addresses, bot: Listener | None = None) -> AsyncIterator[Listener]:
    """Run a bot until it is ready, and on."""
    point_at(process)
    made = bot or Listener()
    task = asyncio.create_task(made.start(token))
    ready = asyncio.create_task(made.ready.wait())
    try:
        async with asyncio.timeout(20):
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield made
    finally:
        ready.cancel()
        await made.close()
        await asyncio.gather(task, return_exceptions=True)
