"""The owner's commands in direct messages, as an extension for this project's bot or a host's.

`await bot.load_extension("sandbox_cogs.owner")` needs only the settings in the environment. The commands are
words without a prefix (`list`, `status my-box`), so a host's own text commands stay as they are. The bot
answers only its owners: those in `DISCORD_OWNER_IDS`, else those in the bot's options, else the owner or
team of its application.
"""

from __future__ import annotations

from sandbox_cogs._core import AnyBot, acquire_core, release_core

from ._isolation import IsolationPressed
from ._listener import OwnerMessages

__all__ = ["OwnerMessages", "setup", "teardown"]


async def setup(bot: AnyBot) -> None:
    """Start to answer the bot's owners.

    Raises `SettingsError` or `DependencyUnavailable` when the bot brings no core and none can be opened.
    """
    core = await acquire_core(bot, __name__)
    await bot.add_cog(OwnerMessages(bot, core))
    bot.add_dynamic_items(IsolationPressed)


async def teardown(bot: AnyBot) -> None:
    """Release the core. discord.py has removed the cog before, and the cog has finished its work."""
    bot.remove_dynamic_items(IsolationPressed)
    await IsolationPressed.end()
    await release_core(bot, __name__)
