"""The periodic work, as an extension for this project's bot or a host's: `sandbox_cogs.upkeep`.

It removes expired sandboxes within seconds, and leftovers of crashes every
`SANDBOX_CLEANUP_INTERVAL_MINUTES`. It sends notices to owners by direct message, and updates gauges and
activity. When several processes run it, each piece of work is done once.
"""

from __future__ import annotations

from sandbox_cogs._core import AnyBot, acquire_core, release_core

from ._cog import Upkeep

__all__ = ["Upkeep", "setup", "teardown"]


async def setup(bot: AnyBot) -> None:
    """Start the work.

    Raises `SettingsError` or `DependencyUnavailable` when the bot brings no core and none can be opened.
    """
    core = await acquire_core(bot, __name__)
    await bot.add_cog(Upkeep(bot, core))


async def teardown(bot: AnyBot) -> None:
    """Release the core. discord.py has removed the cog before, and the cog has stopped its work."""
    await release_core(bot, __name__)
