"""How an interaction is answered: acknowledged at once, worked on within a limit, and always ended."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import discord

from cogs._core import AnyBot
from cogs._deadline import within
from sandbox_core.errors import DependencyUnavailable, SandboxError

from ._errors import report

BUDGET_SECONDS = 9.0
"""How long the work behind an answer may take; with the answer itself it stays under ten seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a finished piece of work shows; only its caller sees it."""

    embed: discord.Embed
    view: discord.ui.View | None = None
    file: discord.File | None = None


async def answer_command(
    interaction: discord.Interaction[AnyBot],
    work: Coroutine[Any, Any, Answer],
    *,
    budget: float = BUDGET_SECONDS,
) -> None:
    """Defer a command privately, then show what `work` returns or why it failed.

    Deferring comes first: Discord gives three seconds to the first sign of life, and fifteen minutes after.
    """
    acknowledge = interaction.response.defer(ephemeral=True, thinking=True)
    # Each store has a limit of its own; what runs into this one is the database that the others wait for.
    late = DependencyUnavailable("PostgreSQL", f"no answer within {budget:g} seconds")
    await _answer(interaction, acknowledge, work, budget, late)


async def answer_button(
    interaction: discord.Interaction[AnyBot],
    work: Coroutine[Any, Any, Answer],
    *,
    meanwhile: discord.Embed,
    budget: float,
    late: SandboxError,
) -> None:
    """Replace the message of a pressed button by `meanwhile` without buttons, then by the answer.

    `late` is shown when the work takes longer than `budget` seconds.
    """
    acknowledge = interaction.response.edit_message(embed=meanwhile, view=None)
    await _answer(interaction, acknowledge, work, budget, late)


async def _answer(
    interaction: discord.Interaction[AnyBot],
    acknowledge: Coroutine[Any, Any, object],
    work: Coroutine[Any, Any, Answer],
    budget: float,
    late: SandboxError,
) -> None:
    try:
        try:
            await acknowledge
        except BaseException:
            work.close()
            raise
        try:
            answer = await within(budget, work)
        except TimeoutError:
            raise late from None
        await interaction.edit_original_response(
            embed=answer.embed,
            view=answer.view,
            attachments=[answer.file] if answer.file is not None else [],
        )
    except Exception as error:  # the edge of the program: every failure becomes an answer
        await report(interaction, error)
