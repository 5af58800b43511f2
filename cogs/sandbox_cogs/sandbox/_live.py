"""An answer that is kept up to date: shown again and again, also through an outage of a server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import discord

from sandbox_cogs._core import AnyBot
from sandbox_cogs._late import what_is_away
from sandbox_cogs._requests import answered
from sandbox_core.error_text import explain
from sandbox_core.errors import SandboxError, SandboxNotFound
from sandbox_core.manager import utc_now
from sandbox_core.tasks import within

from . import _render
from ._reply import BUDGET_SECONDS, NOBODY, Answer
from ._watch import LiveMessage, watches_of

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Interaction = discord.Interaction[AnyBot]
Look = Callable[[datetime | None], Coroutine[Any, Any, Answer]]
"""Returns the answer now; its argument is when the updates end, None for the last one."""
Buttons = Callable[[bool], discord.ui.View]
"""Returns those below a message that is still updated, or is no more."""


async def kept_up_to_date(
    core: Core,
    interaction: Interaction,
    look: Look,
    buttons: Buttons,
    *,
    ends: tuple[type[SandboxError], ...] = (SandboxNotFound,),
) -> Answer:
    """Return the answer, whose message is updated once it is shown. Raises what `look` raises.

    `buttons` are those below an error. The errors `ends` end the updates; any other is shown, and they go on.
    """
    ends_at = utc_now() + timedelta(seconds=watches_of(interaction.client).life)
    live = _Live(core, interaction, look, buttons, ends, ends_at)
    answer = await look(live.ends_at)

    def begin(message: discord.InteractionMessage) -> None:
        kept = LiveMessage(live.ends_at, live.update, live.end)
        watches_of(interaction.client).start(message.id, interaction.user.id, kept)

    return Answer(answer.embed, answer.view, shown=begin)


@dataclass(frozen=True, slots=True)
class _Live:
    core: Core
    interaction: Interaction
    look: Look
    buttons: Buttons
    ends: tuple[type[SandboxError], ...]
    ends_at: datetime

    async def update(self) -> bool:
        """Show it. Return False when there is nothing more to come."""
        return await self._show(self.ends_at)

    async def end(self) -> None:
        """Show it a last time, without the text about live updates."""
        await self._show(None)

    async def _show(self, until: datetime | None) -> bool:
        over = False
        try:
            answer = await within(BUDGET_SECONDS, self.look(until))
        except self.ends as error:
            over = True
            answer = Answer(_render.refusal(explain(error)))
        except SandboxError as error:
            answer = self._trouble(error, until)
        except TimeoutError:
            answer = self._trouble(await what_is_away(self.core, BUDGET_SECONDS), until)
        edit = self.interaction.edit_original_response
        await answered(lambda: edit(embed=answer.embed, view=answer.view, allowed_mentions=NOBODY))
        return not over

    def _trouble(self, error: SandboxError, until: datetime | None) -> Answer:
        # The updates continue: a server that is away comes back.
        return Answer(_render.refusal(explain(error)), self.buttons(until is not None))
