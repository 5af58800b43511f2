"""Shows the status of a sandbox: once, again after a button, or with live updates."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import discord

from sandbox_cogs._core import AnyBot
from sandbox_cogs._late import what_is_away
from sandbox_cogs._requests import answered
from sandbox_core.error_text import explain
from sandbox_core.errors import SandboxError, SandboxNotFound, SandboxNotNamed
from sandbox_core.limits_text import Limits
from sandbox_core.manager import utc_now
from sandbox_core.tasks import within

from . import _render
from ._buttons import sandbox_menu, status_buttons
from ._names import guild_names
from ._reply import BUDGET_SECONDS, Answer
from ._watch import LiveMessage, watches_of

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]


async def status(core: Core, interaction: Interaction, reference: str | None, *, watch: bool) -> Answer:
    """Show the named sandbox, else this guild's, else the caller's only one, else a menu of the caller's.

    Raises `SandboxNotFound`, or `SandboxNotNamed` when the caller names no sandbox and has none.
    """
    if reference is None:
        here = await core.manager.for_guild(str(interaction.guild_id))
        if here is None:
            own = await core.manager.list(owner=str(interaction.user.id), shared=True)
            if not own:
                raise SandboxNotNamed
            if len(own) > 1:
                menu = sandbox_menu(own, f"sandbox:pick:{'watch' if watch else 'once'}")
                return Answer(_render.which_sandbox(len(own)), menu)
            here = own[0]
        reference = str(here.id)
    return await _shown(core, interaction, reference, watch=watch)


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
    watches = watches_of(interaction.client)
    if not watch or watches.full:
        return await _look(core, interaction, reference, refused=watch)
    # By id from here on: another sandbox may get the same name later.
    sandbox = await core.manager.get(reference)
    live = _LiveStatus(core, interaction, sandbox.id, watches.life)
    answer = await live.look()

    def begin(message: discord.InteractionMessage) -> None:
        watches.start(message.id, interaction.user.id, LiveMessage(live.ends_at, live.update, live.end))

    return Answer(answer.embed, answer.view, shown=begin)


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


class _LiveStatus:
    """One sandbox's status in one message, with live updates."""

    def __init__(self, core: Core, interaction: Interaction, sandbox_id: UUID, life: float) -> None:
        self._core = core
        self._interaction = interaction
        self._sandbox_id = sandbox_id
        self.ends_at = utc_now() + timedelta(seconds=life)

    async def look(self, *, last: bool = False) -> Answer:
        """Return the status now. Raises as `SandboxManager.health`."""
        until = None if last else self.ends_at
        return await _look(self._core, self._interaction, str(self._sandbox_id), until=until)

    async def update(self) -> bool:
        """Show the status. Return False when the sandbox is destroyed."""
        return await self._show(last=False)

    async def end(self) -> None:
        """Show the status a last time, without the text about live updates."""
        await self._show(last=True)

    async def _show(self, *, last: bool) -> bool:
        gone = False
        try:
            answer = await within(BUDGET_SECONDS, self.look(last=last))
        except SandboxNotFound as error:
            gone = True
            answer = Answer(_render.refusal(explain(error)))
        except SandboxError as error:
            answer = self._trouble(error, last=last)
        except TimeoutError:
            answer = self._trouble(await what_is_away(self._core, BUDGET_SECONDS), last=last)
        edit = self._interaction.edit_original_response
        await answered(lambda: edit(embed=answer.embed, view=answer.view))
        return not gone

    def _trouble(self, error: SandboxError, *, last: bool) -> Answer:
        # The updates continue: a server that is away comes back.
        return Answer(_render.refusal(explain(error)), status_buttons(self._sandbox_id, live=not last))
