"""Routes the events of a host's discord.py bot: `await bot.load_extension("sandbox_cogs.gateway")`.

It needs only the settings in the environment. The host's code gets no event of a guild that is registered
with a sandbox, unless `SANDBOX_SHIELD_HOST` is off. The extension can't slow down the host's socket: while
NATS is away, events wait in memory.

When another process (such as the standalone bot) publishes the same shard, this process stands by. It keeps
the shard's events, and publishes them when the other process is gone.
"""

from __future__ import annotations

from sandbox_cogs._channels import RestChannels
from sandbox_cogs._core import AnyBot, acquire_core, release_core

from ._fitness import HostNotFit, check_host
from ._listener import GatewayListener

__all__ = ["GatewayListener", "HostNotFit", "setup", "teardown"]


async def setup(bot: AnyBot) -> None:
    """Start to route the bot's events.

    Raises `HostNotFit` when the bot's own options do not work with it or with the settings, and
    `SettingsError` or `DependencyUnavailable` when the bot brings no core and none can be opened.
    """
    core = await acquire_core(bot, __name__)
    check_host(bot, core.settings)
    core.channels.directory = RestChannels(bot.http)
    await bot.add_cog(GatewayListener(bot, core))


async def teardown(bot: AnyBot) -> None:
    """Release the core. discord.py has removed the cog before, and the cog has published its events."""
    await release_core(bot, __name__)
