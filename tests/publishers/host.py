"""Somebody else's discord.py bot, in a process of its own, with this project's extensions in it.

SIGTERM closes it as its author would; SIGUSR1 unloads the extension that publishes, SIGUSR2 loads it anew.
With `HOST_HEARS` it says of each message that its own code gets.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import discord
import structlog
import yarl
from discord.ext import commands

from sandbox_bot.logs import configure_logging
from sandbox_core.settings import load_settings


async def run() -> None:
    """Run until SIGTERM."""
    discord.http.Route.BASE = os.environ["DISCORD_API_URL"]
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(os.environ["HOST_GATEWAY"])
    options: dict[str, Any] = {
        "command_prefix": "!",
        "intents": discord.Intents.all(),
        "guild_ready_timeout": 0.2,
    }
    count = int(os.environ.get("HOST_SHARDS", "0"))
    bot: commands.Bot = (
        commands.AutoShardedBot(shard_count=count, **options) if count else commands.Bot(**options)
    )

    async def identify_at_once(shard_id: int | None, *, initial: bool = False) -> None:
        """discord.py's own hook waits five seconds between shards."""

    bot.before_identify_hook = identify_at_once  # type: ignore[method-assign]
    log = structlog.get_logger("host")

    async def on_message(message: discord.Message) -> None:
        log.info("host_heard", message=str(message.id))

    if os.environ.get("HOST_HEARS"):
        bot.add_listener(on_message)
    await bot.login(os.environ["DISCORD_TOKEN"])
    for extension in os.environ.get("HOST_EXTENSIONS", "sandbox_cogs.gateway").split(","):
        await bot.load_extension(extension)
    running = asyncio.create_task(bot.connect())
    tasks: set[asyncio.Task[None]] = set()

    def when(number: signal.Signals, work: Any, says: str) -> None:
        async def act() -> None:
            await work()
            log.info(says)

        def on_signal() -> None:
            tasks.add(asyncio.create_task(act()))

        asyncio.get_running_loop().add_signal_handler(number, on_signal)

    when(signal.SIGUSR1, lambda: bot.unload_extension("sandbox_cogs.gateway"), "host_unloaded")
    when(signal.SIGUSR2, lambda: bot.reload_extension("sandbox_cogs.gateway"), "host_reloaded")
    when(signal.SIGTERM, bot.close, "host_closed")
    await bot.wait_until_ready()
    log.info("bot_ready")
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.gather(*tasks)


def main() -> None:
    """The program."""
    configure_logging(load_settings())
    asyncio.run(run())


if __name__ == "__main__":
    main()
