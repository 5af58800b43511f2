"""Routes the events of somebody else's discord.py bot: `await bot.load_extension("sandbox_cogs.gateway")`.

Settings come from the environment, and nothing else is needed. What the host's code gets of a server that
goes to a sandbox is nothing; `SANDBOX_SHIELD_HOST` turns that off. In this form nothing can hold the socket
back: while NATS is away, events wait in memory.

Where another process publishes the same shard, such as the standalone bot, this one stands by: it keeps what
comes, and goes on with the shard when the other is gone.
"""

from __future__ import annotations

from sandbox_cogs._channels import RestChannels
from sandbox_cogs._core import AnyBot, acquire_core, release_core

from ._fitness import HostNotFit, check_host
from ._listener import GatewayListener

__all__ = ["GatewayListener", "HostNotFit", "setup", "teardown"]


async def setup(bot: AnyBot) -> None:
    """Begin to route the bot's events.

    Raises `HostNotFit` when the bot's own options don't go with it or with the settings, and
    `SettingsError` or `DependencyUnavailable` when the bot brings no core and none can be opened.
    """
    core = await acquire_core(bot, __name__)
    check_host(bot, core.settings)
    core.channels.directory = RestChannels(bot.http)
    await bot.add_cog(GatewayListener(bot, core))


async def teardown(bot: AnyBot) -> None:
    """Events that were taken are published before the core is given up; the cog is removed by then."""
    await release_core(bot, __name__)
