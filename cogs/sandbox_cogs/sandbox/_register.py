"""Registers a server with a sandbox, at once or after a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import AnyBot

from . import _diversion, _render
from ._access import access_to, actor_of
from ._buttons import below
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]


async def register(core: Core, interaction: Interaction, reference: str | None, guild: str | None) -> Answer:
    """Register a server with the named sandbox or the caller's only one, or ask first."""
    actor = await actor_of(interaction, core.settings)
    access = await access_to(interaction, guild)
    sandbox = await core.manager.get_or_only(reference, owner=actor.id)
    # Checked now and after the click: a caller without the right gets no question.
    check = core.manager.check_register_guild(actor, sandbox, access)
    doubt = await _diversion.doubt_about(core, interaction, access, check)
    if doubt is not None:
        question = _diversion.buttons(interaction, sandbox, access)
        return Answer(_render.register_question(sandbox, doubt), below(*question))
    changed = await core.manager.register_guild(actor, str(sandbox.id), access)
    return Answer(_render.registered(changed, access))
