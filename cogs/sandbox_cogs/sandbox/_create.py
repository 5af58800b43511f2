"""Creates a sandbox, with or without a registered server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.tasks import after_commit

from . import _diversion, _render
from ._access import access_to, actor_of
from ._buttons import below, sandbox_buttons
from ._names import guild_names
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]


async def create(
    core: Core,
    interaction: Interaction,
    name: str | None,
    ttl: str | None,
    guild: str | None,
    *,
    template: str | None,
) -> Answer:
    """Create a sandbox. When a question about its server comes first, the caller's yes registers it."""
    actor = await actor_of(interaction, core.settings)
    if guild is None:
        made = await core.manager.create(actor, name=name, ttl=ttl, template=template)
        return Answer(_render.created(made, {}), below(*sandbox_buttons(made.sandbox.id)))
    access = await access_to(interaction, guild)
    check = core.manager.check_create(actor, name=name, ttl=ttl, guilds=[access], template=template)
    doubt = await _diversion.doubt_about(core, interaction, access, check)
    guilds = [access] if doubt is None else []
    made = await core.manager.create(actor, name=name, ttl=ttl, guilds=guilds, template=template)
    sandbox = made.sandbox
    names: dict[str, str] = {}
    with after_commit("names"):
        names = await guild_names(interaction, sandbox, core.settings)
    embed = _render.created(made, names, doubt)
    if doubt is None:
        return Answer(embed, below(*sandbox_buttons(sandbox.id)))
    question = _diversion.buttons(interaction, sandbox, access)
    return Answer(embed, below(*question, *sandbox_buttons(sandbox.id, row=1)))
