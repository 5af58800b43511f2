"""Asks the caller before a server's events leave production, when production would notice.

The slash commands alone ask this question. The manager decides whether the registration is allowed, and
whether a protected server needs a confirmation.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING
from uuid import UUID

import discord

from sandbox_cogs._core import AnyBot
from sandbox_cogs._late import perhaps_changed
from sandbox_core.errors import ConfirmationNeeded, SandboxError
from sandbox_core.manager import utc_now
from sandbox_core.models import GuildAccess, Sandbox

from . import _render
from ._access import access_to, actor_of
from ._buttons import below, sandbox_buttons
from ._question import Question
from ._reply import BUDGET_SECONDS, Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]


async def doubt_about(
    core: Core, interaction: Interaction, access: GuildAccess, check: Awaitable[None]
) -> _render.Doubt | None:
    """Return what the caller should know first; None when production certainly loses no event.

    Raises what the manager's `check` raises, except `ConfirmationNeeded`.
    """
    protected = False
    try:
        await check
    except ConfirmationNeeded:
        protected = True
    holder = await core.manager.for_guild(access.guild_id)
    if holder is not None and holder.routes_at(utc_now()) and not protected:
        # A sandbox gets this server's events already, so production loses nothing.
        return None
    traffic = _render.Traffic(
        events=core.router.activity.production_events_last_minute(access.guild_id),
        observed=core.intake.received_for(access.guild_id, interaction.client.shard_count or 1),
        last=await core.last_events.of(access.guild_id),
    )
    return None if traffic.is_none and not protected else _render.Doubt(access, traffic, protected)


def buttons(
    interaction: Interaction, sandbox: Sandbox, access: GuildAccess
) -> list[discord.ui.Button[discord.ui.View]]:
    """Return the buttons yes and no, for this caller only."""
    return QUESTION.buttons(interaction.user.id, f"{sandbox.id.hex}:{access.guild_id}")


def _sandbox_id(about: str) -> UUID:
    return UUID(about.partition(":")[0])


async def _register_confirmed(interaction: Interaction, core: Core, about: str) -> Answer:
    actor = await actor_of(interaction, core.settings)
    access = await access_to(interaction, about.partition(":")[2])
    sandbox_id = _sandbox_id(about)
    changed = await core.manager.register_guild(actor, str(sandbox_id), access, confirmed=True)
    return Answer(_render.registered(changed, access), below(*sandbox_buttons(sandbox_id)))


async def _late(core: Core, _about: str) -> SandboxError:
    return await perhaps_changed(core, BUDGET_SECONDS)


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
