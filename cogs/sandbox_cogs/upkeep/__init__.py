"""The periodic work, as an extension for this project's bot or anybody else's: `sandbox_cogs.upkeep`.

Removes expired sandboxes within seconds and what crashes left behind every
`SANDBOX_CLEANUP_INTERVAL_MINUTES`, tells owners by direct message, and keeps gauges and activity current.
In several processes at once each thing is done once.
"""

from __future__ import annotations

from sandbox_cogs._core import AnyBot, acquire_core, release_core

from ._cog import Upkeep

__all__ = ["Upkeep", "setup", "teardown"]


async def setup(bot: AnyBot) -> None:
    """Begin the work.

    Raises `SettingsError` or `DependencyUnavailable` when the bot brings no core and none can be opened.
    """
    core = await acquire_core(bot, __name__)
    await bot.add_cog(Upkeep(bot, core))


async def teardown(bot: AnyBot) -> None:
    """Give up the core; discord.py has removed the cog by then, which has stopped its work."""
    await release_core(bot, __name__)
