"""Questions with two buttons, asked before a change that can't be undone or that others would notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import discord

from sandbox_cogs._acknowledge import acknowledged
from sandbox_cogs._core import AnyBot
from sandbox_core.errors import NotPermitted, SandboxError

from . import _render
from ._buttons import button
from ._once import Once
from ._reply import Answer, answer_after

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

QUESTION_LIFE = timedelta(minutes=10)
"""After this time the answer to a press is "too old": the question's text may be out of date."""

ARGUMENTS = r"(?P<choice>yes|no):(?P<caller>[0-9]{17,20}):(?P<about>[0-9a-f:]{1,60})"
"""What follows `sandbox:ask:` and the kind in a button's id."""

Interaction = discord.Interaction[AnyBot]


def _nothing_left(_about: str) -> discord.ui.View | None:
    return None


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of question. `about` is its subject, as text that fits a button's id."""

    kind: str
    yes: str
    no: str
    nothing_done: str
    """The title when the question ended without a change."""
    kept: str
    """The sentence after the caller said no."""
    command: str
    """The command to run again when the question is too old."""
    doing: str
    """The title while the work runs."""
    budget: float
    """The limit in seconds for the work."""
    act: Callable[[Interaction, Core, str], Coroutine[Any, Any, Answer]]
    late: Callable[[Core, str], Awaitable[SandboxError]]
    """Builds the error for the caller when the work took longer."""
    left: Callable[[str], discord.ui.View | None] = _nothing_left
    """Builds the buttons that stay when the question ended without a change."""

    def buttons(self, caller_id: int, about: str) -> list[discord.ui.Button[discord.ui.View]]:
        """Return the buttons yes and no; only `caller_id` may press them."""
        head = f"sandbox:ask:{self.kind}"
        return [
            button(self.yes, f"{head}:yes:{caller_id}:{about}", discord.ButtonStyle.danger),
            button(self.no, f"{head}:no:{caller_id}:{about}"),
        ]

    async def answered(
        self, interaction: Interaction, core: Core, *, choice: str, caller_id: int, about: str
    ) -> None:
        """Handle an answer; the first press of the two buttons counts."""
        if interaction.user.id != caller_id:
            raise NotPermitted("answer this question", "the person who was asked")
        message = interaction.message
        if message is None or not _answered.first((message.id, about)):
            await acknowledged(interaction, interaction.response.defer)
            return
        counts = False
        try:
            counts = await self._carry_out(interaction, core, message, yes=choice == "yes", about=about)
        finally:
            # Discord rejected the answer and still shows the buttons, so the next press must count.
            if not counts:
                _answered.forget((message.id, about))

    async def _carry_out(
        self, interaction: Interaction, core: Core, message: discord.Message, *, yes: bool, about: str
    ) -> bool:
        """Do the work or close the question. Return whether Discord accepted the answer."""
        if not yes:
            await self._close(interaction, about, self.kept)
        elif interaction.created_at - message.created_at > QUESTION_LIFE:
            await self._close(interaction, about, f"The question is too old; run `{self.command}` again.")
        else:
            return await answer_after(
                interaction,
                self.act(interaction, core, about),
                meanwhile=_render.working(self.doing),
                budget=self.budget,
                late=lambda: self.late(core, about),
            )
        return True

    async def _close(self, interaction: Interaction, about: str, reason: str) -> None:
        embed = _render.nothing_done(self.nothing_done, reason)
        edit = partial(interaction.response.edit_message, embed=embed, view=self.left(about))
        await acknowledged(interaction, edit)


_answered = Once()
