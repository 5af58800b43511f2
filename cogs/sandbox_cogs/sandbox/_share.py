"""Lets a colleague see a sandbox or work in it, and takes that away again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.manager import Colleague
from sandbox_core.models import ShareAccess

from . import _render_share
from ._access import actor_of
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]
User = discord.User | discord.Member


async def share(
    core: Core, interaction: Interaction, reference: str, user: User, access: ShareAccess
) -> Answer:
    """Share it. The colleague's credentials are shown to the colleague alone, by `connect`.

    Raises as `SandboxManager.share`.
    """
    actor = await actor_of(interaction, core.settings)
    colleague = Colleague(str(user.id), user.display_name, is_bot=user.bot)
    shared = await core.manager.share(actor, reference, colleague, access)
    return Answer(_render_share.shared(shared, access))


async def unshare(core: Core, interaction: Interaction, reference: str, user: User) -> Answer:
    """Take the access away. Raises as `SandboxManager.unshare`."""
    actor = await actor_of(interaction, core.settings)
    return Answer(_render_share.unshared(await core.manager.unshare(actor, reference, str(user.id))))
