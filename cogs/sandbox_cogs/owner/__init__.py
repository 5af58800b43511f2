"""The owner's commands in direct messages, as an extension for this project's bot or anybody else's.

`await bot.load_extension("sandbox_cogs.owner")` needs the settings in the environment and nothing more. The
commands are bare words (`list`, `status my-box`) and have nothing to do with the bot's prefix, so a host's
own text commands stay as they are. Only the bot's owners are answered: those in `DISCORD_OWNER_IDS`, else
those the bot was given, else the owner or team of its application.
"""

from __future__ import annotations

from sandbox_cogs._core import AnyBot, acquire_core, release_core

from ._listener import OwnerMessages

__all__ = ["OwnerMessages", "setup", "teardown"]


async def setup(bot: AnyBot) -> None:
    """Begin to answer the owners.

    Raises `SettingsError` or `DependencyUnavailable` when the bot brings no core and none can be opened.
    """
    core = await acquire_core(bot, __name__)
    await bot.add_cog(OwnerMessages(bot, core))


async def teardown(bot: AnyBot) -> None:
    """Give up the core; discord.py has removed the cog by then, which has finished what it was doing."""
    await release_core(bot, __name__)
