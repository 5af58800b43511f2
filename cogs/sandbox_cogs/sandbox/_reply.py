"""How an interaction is answered: acknowledged at once, worked on within a limit, and always ended."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.errors import DependencyUnavailable, SandboxError
from sandbox_core.namespaces import PartState
from sandbox_core.tasks import within

from . import _outcome
from ._access import check_may_use
from ._acknowledge import acknowledged
from ._errors import report

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

BUDGET_SECONDS = 8.0
"""How long the work behind an answer may take; with the answer itself it stays under ten seconds."""
PROBE_SECONDS = 1.0
"""How long the servers may take to show which of them is away, once the work took too long."""

Interaction = discord.Interaction[AnyBot]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a finished piece of work shows; only its caller sees it."""

    embed: discord.Embed
    view: discord.ui.View | None = None
    file: discord.File | None = None
    shown: Callable[[discord.InteractionMessage], None] | None = None
    """Called with the message once it shows the answer."""


Late = Callable[[], Awaitable[SandboxError]]
"""Says what to tell the caller when the work took too long."""


async def answer_anew(
    interaction: Interaction,
    core: Core,
    work: Coroutine[Any, Any, Answer],
    *,
    budget: float = BUDGET_SECONDS,
) -> bool:
    """Defer privately, then show in a message of its own what `work` returns or why it failed.

    Deferring comes first: Discord gives three seconds to the first sign of life, and fifteen minutes after.
    Then comes whether the caller may use the commands at all. That is no check of discord.py's: a failed one
    is passed on to the host's own error handlers, and they would answer what is answered already.

    False when one of these failed, so that `work` was not begun.
    """

    async def begin() -> None:
        await acknowledged(interaction.response.defer(ephemeral=True, thinking=True))
        await check_may_use(interaction, core.settings)

    return await _answer(interaction, begin(), work, budget, _away(core, budget))


async def answer_in_place(
    interaction: Interaction,
    core: Core,
    work: Coroutine[Any, Any, Answer],
    *,
    budget: float = BUDGET_SECONDS,
) -> None:
    """Replace the message of a pressed button or menu by what `work` returns or why it failed."""
    await _answer(interaction, acknowledged(interaction.response.defer()), work, budget, _away(core, budget))


async def answer_after(
    interaction: Interaction,
    work: Coroutine[Any, Any, Answer],
    *,
    meanwhile: discord.Embed,
    budget: float,
    late: Late,
) -> bool:
    """Replace the message of a pressed button by `meanwhile` without buttons, then by the answer.

    `late` is asked when the work takes longer than `budget` seconds. False when Discord did not take the
    first of these, so that `work` was not begun.
    """
    acknowledge = acknowledged(interaction.response.edit_message(embed=meanwhile, view=None))
    return await _answer(interaction, acknowledge, work, budget, late)


def _away(core: Core, waited: float) -> Late:
    async def ask() -> SandboxError:
        return await what_is_away(core, waited)

    return ask


async def what_is_away(core: Core, waited: float) -> DependencyUnavailable:
    """Which server kept the work waiting for `waited` seconds: the first that does not answer now.

    When all of them answer, it is PostgreSQL, whose rows may be locked: the other two lock nothing.
    """
    system = await core.health.check_system(within=PROBE_SECONDS)
    for part in system.parts:
        if part.state is PartState.UNHEALTHY:
            return DependencyUnavailable(part.store, part.detail)
    return DependencyUnavailable("PostgreSQL", f"no answer within {waited:g} seconds")


async def _answer(
    interaction: Interaction,
    acknowledge: Coroutine[Any, Any, object],
    work: Coroutine[Any, Any, Answer],
    budget: float,
    late: Late,
) -> bool:
    """Whether the work was begun."""
    begun = False
    started = time.perf_counter()
    try:
        try:
            await acknowledge
        except BaseException:
            work.close()
            raise
        begun = True
        try:
            answer = await within(budget, work)
        except TimeoutError:
            raise await late() from None
        message = await interaction.edit_original_response(
            embed=answer.embed,
            view=answer.view,
            attachments=[answer.file] if answer.file is not None else [],
        )
        if answer.shown is not None:
            answer.shown(message)
        _outcome.count(interaction, "done")
    except Exception as error:  # the edge of the program: every failure becomes an answer
        await report(interaction, error)
    _outcome.measure(interaction, time.perf_counter() - started)
    return begun
