"""Destroying one sandbox, or all of the caller's: the question, and what became of each."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.error_text import explain
from sandbox_core.errors import CleanupFailed, InvalidInput, SandboxError, SandboxNotNamed
from sandbox_core.models import Actor, Sandbox, short_id
from sandbox_core.tasks import within

from . import _render, _render_destroy
from ._access import actor_of
from ._buttons import below
from ._names import guild_names
from ._question import Question
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

DESTROY_SECONDS = 30.0
"""How long a caller waits for a destruction. Each of its steps has a limit of its own; should all of them
need it, they add up to more, and the caller reads that cleanup goes on with it."""
_AT_ONCE = 4
"""Sandboxes destroyed at the same time."""

Interaction = discord.Interaction[AnyBot]


async def ask(
    core: Core, interaction: Interaction, reference: str | None, *, everything: bool = False
) -> Answer:
    """The question about the named sandbox, the caller's only one, or with `everything` all of theirs.

    Raises `NotPermitted` for somebody else's, `SandboxNotNamed` when it is not clear which, and
    `InvalidInput` for one that is named beside `everything`.
    """
    if everything:
        if reference is not None:
            problem = "`all` is every one of yours already"
            raise InvalidInput("name", reference, problem, "`/sandbox destroy all:True`")
        return await _ask_about_all(core, interaction)
    actor = await actor_of(interaction, core.settings)
    sandbox = await core.manager.get_or_only(reference, owner=actor.id)
    # Asked now as well as after the click: nobody should be asked about what they may not do.
    core.manager.check_may_manage(actor, sandbox, "destroy")
    embed = _render_destroy.question(sandbox, guild_names(interaction.client, sandbox))
    return Answer(embed, below(*ONE.buttons(interaction.user.id, sandbox.id.hex)))


async def _ask_about_all(core: Core, interaction: Interaction) -> Answer:
    own = await core.manager.list(owner=str(interaction.user.id))
    if not own:
        raise SandboxNotNamed
    embed = _render_destroy.question_about_all(own)
    return Answer(embed, below(*ALL.buttons(interaction.user.id, _digest(own))))


async def _destroy_one(interaction: Interaction, core: Core, about: str) -> Answer:
    actor = await actor_of(interaction, core.settings)
    return Answer(_render_destroy.destroyed(await core.manager.destroy(actor, str(UUID(about)))))


async def _destroy_all(interaction: Interaction, core: Core, about: str) -> Answer:
    actor = await actor_of(interaction, core.settings)
    own = await core.manager.list(owner=actor.id)
    if _digest(own) != about:
        # Only what the caller has read is destroyed: never a sandbox made since.
        reason = f"Your sandboxes are not those of the question any more; run `{ALL.command}` again."
        return Answer(_render.nothing_done(ALL.nothing_done, reason))
    turns = asyncio.Semaphore(_AT_ONCE)
    results = await asyncio.gather(*(_outcome(core, actor, sandbox, turns) for sandbox in own))
    return Answer(_render_destroy.outcomes(results))


async def _outcome(
    core: Core, actor: Actor, sandbox: Sandbox, turns: asyncio.Semaphore
) -> _render_destroy.Outcome:
    try:
        async with turns:
            await within(DESTROY_SECONDS, core.manager.destroy(actor, str(sandbox.id)))
    except SandboxError as error:
        return _render_destroy.Outcome(sandbox.name, str(explain(error)), error.code)
    except TimeoutError:
        late = explain(_stuck(sandbox.name))
        return _render_destroy.Outcome(sandbox.name, str(late), late.code)
    return _render_destroy.Outcome(sandbox.name)


def _stuck(name: str) -> CleanupFailed:
    return CleanupFailed(name, "waiting for the stores", f"no answer in {DESTROY_SECONDS:g} seconds")


async def _one_is_late(_core: Core, about: str) -> SandboxError:
    return _stuck(short_id(UUID(about)))


async def _all_are_late(_core: Core, _about: str) -> SandboxError:
    return _stuck("all of yours")


def _digest(sandboxes: Iterable[Sandbox]) -> str:
    """Which sandboxes a question was about, short enough for a button's id."""
    ids = " ".join(sorted(str(sandbox.id) for sandbox in sandboxes))
    return hashlib.sha256(ids.encode()).hexdigest()[:32]


ONE = Question(
    kind="destroy",
    yes="Destroy it",
    no="Keep it",
    nothing_done="Nothing was deleted",
    kept="You kept the sandbox.",
    command="/sandbox destroy",
    doing="Destroying the sandbox",
    budget=DESTROY_SECONDS,
    act=_destroy_one,
    late=_one_is_late,
)
ALL = Question(
    kind="all",
    yes="Destroy all of them",
    no="Keep them",
    nothing_done="Nothing was deleted",
    kept="You kept your sandboxes.",
    command="/sandbox destroy all:True",
    doing="Destroying your sandboxes",
    # Several turns, each with its own limit.
    budget=5 * DESTROY_SECONDS,
    act=_destroy_all,
    late=_all_are_late,
)
