"""Registering a server: at once, or after a question where production would notice.

The question is this face's own, about what its caller may not know. Whether it is allowed, and that a
protected server takes a confirmation, is the manager's to say.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING
from uuid import UUID

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.errors import ConfirmationNeeded, SandboxError
from sandbox_core.manager import utc_now
from sandbox_core.models import GuildAccess, Sandbox

from . import _render
from ._access import access_to, actor_of
from ._buttons import below, sandbox_buttons
from ._names import guild_names
from ._question import Question
from ._reply import BUDGET_SECONDS, Answer, what_is_away

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]


async def create(
    core: Core, interaction: Interaction, name: str | None, ttl: str | None, guild: str | None
) -> Answer:
    """Make a sandbox; a server that is asked about is registered by the answer to the question."""
    actor = await actor_of(interaction, core.settings)
    if guild is None:
        sandbox = await core.manager.create(actor, name=name, ttl=ttl)
        return Answer(_render.created(sandbox, {}), below(*sandbox_buttons(sandbox.id)))
    access = await access_to(interaction, guild)
    check = core.manager.check_create(actor, name=name, ttl=ttl, guilds=[access])
    doubt = await _doubt(core, interaction, access, protected=await _to_confirm(check))
    guilds = [access] if doubt is None else []
    sandbox = await core.manager.create(actor, name=name, ttl=ttl, guilds=guilds)
    embed = _render.created(sandbox, guild_names(interaction.client, sandbox), doubt)
    if doubt is None:
        return Answer(embed, below(*sandbox_buttons(sandbox.id)))
    question = QUESTION.buttons(interaction.user.id, _about(sandbox, access))
    return Answer(embed, below(*question, *sandbox_buttons(sandbox.id, row=1)))


async def register(core: Core, interaction: Interaction, reference: str, guild: str | None) -> Answer:
    """Register a server with a sandbox, or ask first."""
    actor = await actor_of(interaction, core.settings)
    access = await access_to(interaction, guild)
    sandbox = await core.manager.get(reference)
    # Asked now as well as after the click: nobody should be asked about what they may not do.
    check = core.manager.check_register_guild(actor, sandbox, access)
    doubt = await _doubt(core, interaction, access, protected=await _to_confirm(check))
    if doubt is not None:
        buttons = QUESTION.buttons(interaction.user.id, _about(sandbox, access))
        return Answer(_render.register_question(sandbox, doubt), below(*buttons))
    sandbox = await core.manager.register_guild(actor, str(sandbox.id), access)
    return Answer(_render.registered(sandbox, access))


async def _to_confirm(check: Awaitable[None]) -> bool:
    """True when nothing but a confirmation is missing. Raises every other refusal of `check`."""
    try:
        await check
    except ConfirmationNeeded:
        return True
    return False


async def _doubt(
    core: Core, interaction: Interaction, access: GuildAccess, *, protected: bool
) -> _render.Doubt | None:
    """What the caller should know first; None when production certainly loses nothing."""
    holder = await core.manager.for_guild(access.guild_id)
    if holder is not None and holder.routes_at(utc_now()) and not protected:
        # It is registered with this sandbox already, so production has none of its events.
        return None
    traffic = _render.Traffic(
        events=core.router.activity.production_events_last_minute(access.guild_id),
        watched=core.intake.watched_for(access.guild_id, interaction.client.shard_count or 1),
        last=await core.last_events.of(access.guild_id),
    )
    return None if traffic.is_none and not protected else _render.Doubt(access, traffic, protected)


def _about(sandbox: Sandbox, access: GuildAccess) -> str:
    return f"{sandbox.id.hex}:{access.guild_id}"


def _sandbox_id(about: str) -> UUID:
    return UUID(about.partition(":")[0])


async def _register_confirmed(interaction: Interaction, core: Core, about: str) -> Answer:
    actor = await actor_of(interaction, core.settings)
    access = await access_to(interaction, about.partition(":")[2])
    sandbox_id = _sandbox_id(about)
    sandbox = await core.manager.register_guild(actor, str(sandbox_id), access, confirmed=True)
    return Answer(_render.registered(sandbox, access), below(*sandbox_buttons(sandbox_id)))


async def _late(core: Core, _about: str) -> SandboxError:
    return await what_is_away(core, BUDGET_SECONDS)


def _left(about: str) -> discord.ui.View:
    return below(*sandbox_buttons(_sandbox_id(about)))


QUESTION = Question(
    kind="guild",
    yes="Register it",
    no="Leave it to production",
    nothing_done="The server was not registered",
    kept="Its events go to production, as before.",
    command="/sandbox register-guild",
    doing="Registering the server",
    budget=BUDGET_SECONDS,
    act=_register_confirmed,
    late=_late,
    left=_left,
)
