"""Changes what a bot in a sandbox may do at Discord."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.models import GuildAccess, RestLevel

from . import _render
from ._access import actor_of, guild_access
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]


async def set_level(core: Core, interaction: Interaction, reference: str, level: RestLevel) -> Answer:
    """Change the level. Raises as `SandboxManager.set_rest_level`."""
    actor = await actor_of(interaction, core.settings)
    sandbox = await core.manager.get(reference)
    core.manager.check_may_manage(actor, sandbox, "set the level of")
    accesses: Sequence[GuildAccess] = ()
    if not sandbox.rest_level.includes(level):
        # Discord's present answer decides, as when a server is registered.
        asked = (guild_access(interaction.client, each, interaction.user.id) for each in sandbox.guild_ids)
        accesses = await asyncio.gather(*asked)
    changed = await core.manager.set_rest_level(actor, str(sandbox.id), level, accesses)
    return Answer(_render.level_set(changed.sandbox))
