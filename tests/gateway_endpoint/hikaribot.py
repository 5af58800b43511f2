"""hikari, unmodified, at the endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import hikari

from .pybot import Addresses


class Listener:
    """A hikari bot, and what it has seen."""

    def __init__(self, token: str, process: Addresses) -> None:
        self.contents: list[str | None] = []
        self.resumed = 0
        self.available: list[int] = []
        self.gone: list[int] = []
        self.bot = hikari.GatewayBot(
            token,
            rest_url=process.api_url,
            intents=hikari.Intents.ALL,
            banner=None,
            logs=None,
            suppress_optimization_warning=True,
        )
        self.bot.subscribe(hikari.GuildMessageCreateEvent, self._on_message)
        self.bot.subscribe(hikari.ShardResumedEvent, self._on_resumed)
        self.bot.subscribe(hikari.GuildAvailableEvent, self._on_available)
        self.bot.subscribe(hikari.GuildJoinEvent, self._on_available)
        self.bot.subscribe(hikari.GuildUnavailableEvent, self._on_unavailable)

    async def _on_message(self, event: hikari.GuildMessageCreateEvent) -> None:
        self.contents.append(event.message.content)
        if event.message.content == "ping":
            await event.message.respond("pong")

    async def _on_resumed(self, _: hikari.ShardResumedEvent) -> None:
        self.resumed += 1

    async def _on_available(self, event: hikari.GuildAvailableEvent | hikari.GuildJoinEvent) -> None:
        self.available.append(int(event.guild_id))

    async def _on_unavailable(self, event: hikari.GuildUnavailableEvent) -> None:
        self.gone.append(int(event.guild_id))


@asynccontextmanager
async def started(token: str, process: Addresses) -> AsyncIterator[Listener]:
    listener = Listener(token, process)
    async with asyncio.timeout(30):
        await listener.bot.start(check_for_updates=False)
    try:
        yield listener
    finally:
        await listener.bot.close()
