"""Shows the status of a sandbox: once, again after a button, or with live updates."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.error_text import explain
from sandbox_core.errors import SandboxError, SandboxNotFound, SandboxNotNamed
from sandbox_core.limits_text import Limits
from sandbox_core.manager import utc_now

from . import _render
from ._buttons import sandbox_menu, status_buttons
from ._live import kept_up_to_date
from ._names import guild_names
from ._reply import Answer
from ._watch import watches_of

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]


async def status(core: Core, interaction: Interaction, reference: str | None, *, watch: bool) -> Answer:
    """Show the named sandbox, else this guild's, else the caller's only one, else a menu of the caller's.

    Raises `SandboxNotFound`, or `SandboxNotNamed` when the caller names no sandbox and has none.
    """
    found = await named_or_menu(core, interaction, reference, f"sandbox:pick:{'watch' if watch else 'once'}")
    if isinstance(found, Answer):
        return found
    return await _shown(core, interaction, found, watch=watch)


async def named_or_menu(
    core: Core, interaction: Interaction, reference: str | None, custom_id: str
) -> str | Answer:
    """Return the named sandbox, else this guild's, else the caller's only one, else a menu of the caller's.

    A press of the menu has `custom_id`. Raises `SandboxNotNamed`.
    """
    if reference is None:
        here = await core.manager.for_guild(str(interaction.guild_id))
        if here is None:
            own = await core.manager.list(owner=str(interaction.user.id), shared=True)
            if not own:
                raise SandboxNotNamed
            if len(own) > 1:
                return Answer(_render.which_sandbox(len(own)), sandbox_menu(own, custom_id))
            here = own[0]
        reference = str(here.id)
    return reference


async def refreshed(core: Core, interaction: Interaction, sandbox_id: UUID) -> Answer:
    """Show the status again; the buttons stay when a later press may help."""
    message = interaction.message
    until = watches_of(interaction.client).ends_at(message.id) if message is not None else None
    try:
        return await _look(core, interaction, str(sandbox_id), until=until)
    except SandboxNotFound:
        raise
    except SandboxError as error:
        return Answer(_render.refusal(explain(error)), status_buttons(sandbox_id, live=until is not None))


async def unwatched(core: Core, interaction: Interaction, sandbox_id: UUID) -> Answer:
    """Stop the live updates, and show the status a last time."""
    if interaction.message is not None:
        watches_of(interaction.client).stop(interaction.message.id)
    return await refreshed(core, interaction, sandbox_id)


async def _shown(core: Core, interaction: Interaction, reference: str, *, watch: bool) -> Answer:
    if not watch or watches_of(interaction.client).full:
        return await _look(core, interaction, reference, refused=watch)
    # By id from here on: another sandbox may get the same name later.
    sandbox_id = (await core.manager.get(reference)).id

    async def look(until: datetime | None) -> Answer:
        return await _look(core, interaction, str(sandbox_id), until=until)

    def buttons(live: bool) -> discord.ui.View:
        return status_buttons(sandbox_id, live=live)

    return await kept_up_to_date(core, interaction, look, buttons)


async def _look(
    core: Core,
    interaction: Interaction,
    reference: str,
    *,
    until: datetime | None = None,
    refused: bool = False,
) -> Answer:
    """Show the status now. `until` is the end of live updates; `refused` means that none are possible."""
    health = await core.manager.health(reference)
    embed = _render.status(
        health,
        await guild_names(interaction, health.sandbox, core.settings),
        limits=Limits.of(core.settings),
        now=utc_now(),
        events_last_minute=core.router.activity.sandbox_events_last_minute(str(health.sandbox.id)),
        watched_until=until,
        not_watched=refused,
    )
    return Answer(embed, status_buttons(health.sandbox.id, live=until is not None))
