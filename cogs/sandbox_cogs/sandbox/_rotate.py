"""Gives a sandbox new credentials, and shows them only to the sandbox's owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import AnyBot

from ._access import actor_of
from ._connect import environment_of
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core


async def rotate(core: Core, interaction: discord.Interaction[AnyBot], reference: str) -> Answer:
    """Rotate, and return the new environment. Raises as `SandboxManager.rotate`."""
    actor = await actor_of(interaction, core.settings)
    rotated = await core.manager.rotate(actor, reference)
    return environment_of(
        core, actor, rotated.sandbox, f"New credentials of {rotated.sandbox.name}; the old ones are cut"
    )
