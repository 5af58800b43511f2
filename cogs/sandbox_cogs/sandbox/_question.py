"""Questions with two buttons, asked before something that can't be undone or that others would notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.errors import NotPermitted, SandboxError

from . import _render
from ._acknowledge import acknowledged
from ._buttons import button
from ._once import Once
from ._reply import Answer, answer_after

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

QUESTION_LIFE = timedelta(minutes=10)
"""After this a question is answered with "too old": what it said may have changed."""

ARGUMENTS = r"(?P<choice>yes|no):(?P<caller>[0-9]{17,20}):(?P<about>[0-9a-f:]{1,60})"
"""What follows `sandbox:ask:` and the kind in a button's id."""

Interaction = discord.Interaction[AnyBot]


def _nothing_left(_about: str) -> discord.ui.View | None:
    return None


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of question. `about` is what it is about, as text that fits a button's id."""

    kind: str
    yes: str
    no: str
    nothing_done: str
    """The title once it ended without anything done."""
    kept: str
    """The sentence when the caller said no."""
    command: str
    """What to run again when the question is too old."""
    doing: str
    """The title while it is being done."""
    budget: float
    """Seconds that doing it may take."""
    act: Callable[[Interaction, Core, str], Coroutine[Any, Any, Answer]]
    late: Callable[[Core, str], Awaitable[SandboxError]]
    """What to tell the caller when doing it took longer."""
    left: Callable[[str], discord.ui.View | None] = _nothing_left
    """The buttons that stay once the question ended without anything done."""

    def buttons(self, caller_id: int, about: str) -> list[discord.ui.Button[discord.ui.View]]:
        """Yes and no; only `caller_id` may press them."""
        head = f"sandbox:ask:{self.kind}"
        return [
            button(self.yes, f"{head}:yes:{caller_id}:{about}", discord.ButtonStyle.danger),
            button(self.no, f"{head}:no:{caller_id}:{about}"),
        ]

    async def answered(
        self, interaction: Interaction, core: Core, *, choice: str, caller_id: int, about: str
    ) -> None:
        """Do it or leave it; the first press of the two buttons counts."""
        if interaction.user.id != caller_id:
            raise NotPermitted("answer this question", "the person who was asked")
        message = interaction.message
        if message is None or not _answered.first((message.id, about)):
            await acknowledged(interaction.response.defer())
            return
        counts = False
        try:
            counts = await self._carry_out(interaction, core, message, yes=choice == "yes", about=about)
        finally:
            # Discord did not take this press, and still shows the buttons: the next one counts.
            if not counts:
                _answered.forget((message.id, about))

    async def _carry_out(
        self, interaction: Interaction, core: Core, message: discord.Message, *, yes: bool, about: str
    ) -> bool:
        """Whether Discord took the answer."""
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
        await acknowledged(interaction.response.edit_message(embed=embed, view=self.left(about)))


_answered = Once()
