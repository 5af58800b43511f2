"""Destroys one sandbox, or all of the caller's, after a question."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

import discord

from sandbox_cogs._core import AnyBot
from sandbox_cogs._late import perhaps_changed, perhaps_destroyed
from sandbox_core.error_text import explain
from sandbox_core.errors import InvalidInput, SandboxError, SandboxNotNamed
from sandbox_core.models import Actor, Sandbox
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
"""Seconds that a caller waits for a destruction. Each of its steps has its own limit. When the sum of them
is longer, the answer says that cleanup continues it, if that is known."""
_AT_ONCE = 4
"""The most sandboxes that are destroyed at the same time."""

Interaction = discord.Interaction[AnyBot]


async def ask(
    core: Core, interaction: Interaction, reference: str | None, *, everything: bool = False
) -> Answer:
    """Ask about the named sandbox, the caller's only one, or with `everything` all of the caller's.

    Raises `NotPermitted` for somebody else's sandbox, `SandboxNotNamed` when the caller must name one, and
    `InvalidInput` for a name together with `everything`.
    """
    if everything:
        if reference is not None:
            problem = "`all` means all of your sandboxes, so no name may follow"
            raise InvalidInput("name", reference, problem, "`/sandbox destroy all:True`")
        return await _ask_about_all(core, interaction)
    actor = await actor_of(interaction, core.settings)
    sandbox = await core.manager.get_or_only(reference, owner=actor.id)
    # Checked now and after the click: a caller without the right gets no question.
    core.manager.check_may_manage(actor, sandbox, "destroy")
    embed = _render_destroy.question(sandbox, await guild_names(interaction, sandbox, core.settings))
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
        # Destroy only sandboxes that the question listed, never a newer one.
        reason = f"Your sandboxes are not those of the question any more; run `{ALL.command}` again."
        return Answer(_render.nothing_done(ALL.nothing_done, reason))
    turns = asyncio.Semaphore(_AT_ONCE)
    results = await asyncio.gather(*(_removal(core, actor, sandbox, turns) for sandbox in own))
    return Answer(_render_destroy.removals(results))


async def _removal(
    core: Core, actor: Actor, sandbox: Sandbox, turns: asyncio.Semaphore
) -> _render_destroy.Removal:
    try:
        async with turns:
            await within(DESTROY_SECONDS, core.manager.destroy(actor, str(sandbox.id)))
    except SandboxError as error:
        return _render_destroy.Removal(sandbox.name, str(explain(error)), error.code)
    except TimeoutError:
        late = explain(await perhaps_destroyed(core, str(sandbox.id), DESTROY_SECONDS))
        return _render_destroy.Removal(sandbox.name, str(late), late.code)
    return _render_destroy.Removal(sandbox.name)


async def _one_is_late(core: Core, about: str) -> SandboxError:
    return await perhaps_destroyed(core, str(UUID(about)), DESTROY_SECONDS)


async def _all_are_late(core: Core, _about: str) -> SandboxError:
    return await perhaps_changed(core, ALL.budget)


def _digest(sandboxes: Iterable[Sandbox]) -> str:
    """Return a hash of the sandboxes in a question, short enough for a button's id."""
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
    # Sandboxes wait for each other (`_AT_ONCE`), and each has its own limit.
    budget=5 * DESTROY_SECONDS,
    act=_destroy_all,
    late=_all_are_late,
)
