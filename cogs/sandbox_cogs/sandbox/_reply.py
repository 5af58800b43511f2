"""Answers an interaction: acknowledges it at once, limits the time of the work, and always answers."""

from __future__ import annotations

import io
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import discord

from sandbox_cogs._acknowledge import TakenElsewhere, acknowledged
from sandbox_cogs._core import AnyBot
from sandbox_cogs._late import perhaps_changed, what_is_away
from sandbox_cogs._requests import answered
from sandbox_core.errors import SandboxError
from sandbox_core.tasks import within

from . import _outcome
from ._access import check_may_use
from ._errors import report, report_unshown

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

BUDGET_SECONDS = 8.0
"""The limit in seconds for the work; with the answer itself the total stays under ten seconds."""

NOBODY = discord.AllowedMentions.none()
"""An answer may name people, and pings none of them."""

Interaction = discord.Interaction[AnyBot]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an interaction; only its caller sees it."""

    embed: discord.Embed
    view: discord.ui.View | None = None
    file: discord.File | None = None
    shown: Callable[[discord.InteractionMessage], None] | None = None
    """Called with the message that shows the answer."""


Late = Callable[[], Awaitable[SandboxError]]
"""Builds the error for the caller when the work took too long."""


async def answer_anew(
    interaction: Interaction,
    core: Core,
    work: Coroutine[Any, Any, Answer],
    *,
    changes: bool = False,
    budget: float = BUDGET_SECONDS,
) -> bool:
    """Defer privately, then show the result of `work`, or why it failed, in a new message.

    `changes` says that the work may change something, for what is said when it takes longer than `budget`.

    It defers first: Discord wants an acknowledgement within three seconds, and the answer within fifteen
    minutes. Then it checks whether the caller may use the commands. This is not a check of discord.py,
    because discord.py also calls the host's error handlers, which would answer a second time.

    Return False when one of these failed and `work` did not start.
    """

    async def begin() -> None:
        defer = partial(interaction.response.defer, ephemeral=True, thinking=True)
        await acknowledged(interaction, defer)
        await check_may_use(interaction, core.settings)

    tell = perhaps_changed if changes else what_is_away
    return await _answer(interaction, begin(), work, budget, lambda: tell(core, budget))


async def answer_in_place(
    interaction: Interaction,
    core: Core,
    work: Coroutine[Any, Any, Answer],
    *,
    budget: float = BUDGET_SECONDS,
) -> None:
    """Replace the message of a pressed button or menu by the result of `work`, or by why it failed.

    `work` changes nothing.
    """
    await _answer(
        interaction,
        acknowledged(interaction, interaction.response.defer),
        work,
        budget,
        lambda: what_is_away(core, budget),
    )


async def answer_after(
    interaction: Interaction,
    work: Coroutine[Any, Any, Answer],
    *,
    meanwhile: discord.Embed,
    budget: float,
    late: Late,
) -> bool:
    """Replace the message of a pressed button by `meanwhile` without buttons, then by the answer.

    `late` builds the error when the work takes longer than `budget` seconds. Return False when Discord
    rejected the first replacement and `work` did not start.
    """
    edit = partial(interaction.response.edit_message, embed=meanwhile, view=None)
    return await _answer(interaction, acknowledged(interaction, edit), work, budget, late)


async def _answer(
    interaction: Interaction,
    acknowledge: Coroutine[Any, Any, object],
    work: Coroutine[Any, Any, Answer],
    budget: float,
    late: Late,
) -> bool:
    """Acknowledge, work and answer. Return whether the work started."""
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
        _outcome.count(interaction, "done")
        try:
            message = await answered(lambda: _show(interaction, answer))
        except Exception as error:
            # Any error: what was asked for is done, and only its answer is lost.
            await report_unshown(interaction, error)
        else:
            if answer.shown is not None:
                answer.shown(message)
    except TakenElsewhere as error:
        # The other process measures it.
        await report(interaction, error)
        return False
    except Exception as error:  # the outermost handler: every failure becomes an answer
        await report(interaction, error)
    _outcome.measure(interaction, time.perf_counter() - started)
    return begun


async def _show(interaction: Interaction, answer: Answer) -> discord.InteractionMessage:
    files = []
    if (file := answer.file) is not None:
        # discord.py closes what it has sent, and it may have to be sent again.
        file.reset()
        files = [discord.File(io.BytesIO(file.fp.read()), filename=file.filename)]
    return await interaction.edit_original_response(
        embed=answer.embed, view=answer.view, attachments=files, allowed_mentions=NOBODY
    )
