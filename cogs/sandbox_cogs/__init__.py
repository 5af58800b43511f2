"""The Discord edge: extensions that work in this project's bot and in a host's bot.

`await bot.load_extension("sandbox_cogs")` loads all four into your own discord.py bot. You can also load
each of them alone: `sandbox_cogs.sandbox`, `.owner`, `.gateway` and `.upkeep`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._core import AnyBot

EXTENSIONS = ("sandbox_cogs.sandbox", "sandbox_cogs.owner", "sandbox_cogs.gateway", "sandbox_cogs.upkeep")
"""The extensions, in the order in which `sandbox_cogs` loads them."""


async def setup(bot: AnyBot) -> None:
    """Load every extension that `bot` has not loaded yet; after a failure unload them all.

    Raises discord.py's `ExtensionFailed` with the error of the extension.
    """
    loaded: list[str] = []
    try:
        for name in EXTENSIONS:
            if name not in bot.extensions:
                await bot.load_extension(name)
                loaded.append(name)
    except BaseException:
        for name in reversed(loaded):
            await bot.unload_extension(name)
        raise


async def teardown(bot: AnyBot) -> None:
    """Unload the extensions that are still loaded."""
    for name in reversed(EXTENSIONS):
        if name in bot.extensions:
            await bot.unload_extension(name)
