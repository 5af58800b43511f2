"""`level`: changes what a sandbox's bot may do at Discord."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.manager import Changed, utc_now
from sandbox_core.models import RestLevel, level_text

from . import _caller as caller
from . import _json as json
from . import _options as options
from ._discord import guild_accesses
from ._exit import run
from ._screen import Line, busy, emit, show
from ._session import opened


def level(
    name: options.Name,
    level: Annotated[
        RestLevel,
        typer.Argument(metavar="LEVEL", help="read_only, no_moderation or full."),
    ],
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Change what the bot of a sandbox may do at Discord, in the sandbox's servers."""
    with busy("Changing"):
        changed = run(_set(name, level, owner))
    if as_json:
        emit(json.level_set(changed, utc_now()))
        return
    show(Line(f"The bot of {changed.sandbox.name} may now {level_text(level)}."))


async def _set(name: str, level: RestLevel, owner: str | None) -> Changed:
    async with opened() as core:
        actor = caller.actor(owner, core.settings)
        sandbox = await core.manager.get(name)
        core.manager.check_may_manage(actor, sandbox, "set the level of")
        raised = not sandbox.rest_level.includes(level)
        # The operator may do everything, so Discord need not be asked.
        asked = sandbox.guild_ids if raised and not actor.is_bot_owner else ()
        accesses = await guild_accesses(core.settings, asked, owner)
        return await core.manager.set_rest_level(actor, str(sandbox.id), level, accesses)
