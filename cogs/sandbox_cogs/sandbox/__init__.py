"""The slash commands `/sandbox …`, as an extension for this project's bot or a host's.

`await bot.load_extension("sandbox_cogs.sandbox")` needs only the settings in the environment. The commands
belong to the guilds in `DISCORD_DEV_GUILD_IDS`. A host that syncs its tree for those guilds publishes them;
`sync_commands` publishes only them.
"""

from __future__ import annotations

from sandbox_cogs._core import AnyBot, acquire_core, release_core

from ._errors import on_tree_error
from ._extend import on_form
from ._group import SandboxCommands
from ._presses import Pressed
from ._sync import sync_commands
from ._watch import close_watches

__all__ = ["on_tree_error", "setup", "sync_commands", "teardown"]


async def setup(bot: AnyBot) -> None:
    """Add the commands and their buttons to `bot`.

    Raises `SettingsError` or `DependencyUnavailable` when the bot brings no core and none can be opened,
    and discord.py's `CommandAlreadyRegistered` when the bot has a command `/sandbox` of its own there.
    """
    core = await acquire_core(bot, __name__)
    bot.tree.add_command(SandboxCommands(core))
    bot.add_dynamic_items(Pressed)
    bot.add_listener(on_form, "on_interaction")


async def teardown(bot: AnyBot) -> None:
    """Remove what `setup` added. discord.py has removed the commands before."""
    bot.remove_dynamic_items(Pressed)
    bot.remove_listener(on_form, "on_interaction")
    await close_watches(bot)
    await release_core(bot, __name__)
