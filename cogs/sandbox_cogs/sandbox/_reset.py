"""Resets one sandbox, after a question."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import discord

from sandbox_cogs._core import AnyBot
from sandbox_cogs._late import perhaps_changed
from sandbox_core.errors import SandboxError

from . import _render_reset
from ._access import actor_of
from ._buttons import below
from ._names import guild_names
from ._question import Question
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

RESET_SECONDS = 90.0
"""Seconds that a caller waits for a reset. Each of its steps has its own limit; the bot finishes one that is
cut off."""

Interaction = discord.Interaction[AnyBot]


async def ask(core: Core, interaction: Interaction, reference: str | None) -> Answer:
    """Ask about the named sandbox, or the caller's only one. Raises as `SandboxManager.reset`."""
    actor = await actor_of(interaction, core.settings)
    named = await core.manager.get_or_only(reference, owner=actor.id)
    # Checked now and after the click: a caller without the right gets no question.
    sandbox = await core.manager.check_reset(actor, str(named.id))
    embed = _render_reset.question(sandbox, await guild_names(interaction, sandbox, core.settings))
    return Answer(embed, below(*RESET.buttons(interaction.user.id, sandbox.id.hex)))


async def _reset(interaction: Interaction, core: Core, about: str) -> Answer:
    actor = await actor_of(interaction, core.settings)
    return Answer(_render_reset.done(await core.manager.reset(actor, str(UUID(about)))))


async def _is_late(core: Core, _about: str) -> SandboxError:
    return await perhaps_changed(core, RESET_SECONDS)


RESET = Question(
    kind="reset",
    yes="Reset it",
    no="Keep it as it is",
    nothing_done="Nothing was deleted",
    kept="The sandbox stays as it is.",
    command="/sandbox reset",
    doing="Resetting the sandbox",
    budget=RESET_SECONDS,
    act=_reset,
    late=_is_late,
)
