"""Sends a server's events to production again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import AnyBot

from . import _render
from ._access import access_to, actor_of
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]


async def unregister(
    core: Core, interaction: Interaction, reference: str | None, guild: str | None
) -> Answer:
    """Unregister a server from the named sandbox, or from the one that has it."""
    actor = await actor_of(interaction, core.settings)
    access = await access_to(interaction, guild)
    changed = await core.manager.unregister_guild(actor, access, reference=reference)
    return Answer(_render.unregistered(changed, access))
