"""`extend`: lets a sandbox live longer."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.manager import Extension, utc_now

from . import _caller as caller
from . import _json as json
from . import _options as options
from ._exit import run
from ._screen import (
    Line,
    busy,
    emit,
    show,
)
from ._session import opened
from ._words import moment, relative


def extend(
    name: options.Name,
    duration: Annotated[
        str, typer.Argument(metavar="DURATION", help="How much longer: 90m, 24h, 3d, or a number of hours.")
    ],
    owner: options.Owner = None,
    as_json: options.Json = False,
) -> None:
    """Let a sandbox live longer, up to the longest life allowed."""
    with busy("Extending"):
        extension = run(_extend(name, duration, owner))
    sandbox, now = extension.sandbox, utc_now()
    if as_json:
        emit(json.extended(extension, now))
        return
    expires = f"{moment(sandbox.expires_at)}, {relative(sandbox.expires_at, now)}"
    capped = " That is less than asked for: it is the longest life allowed." if extension.capped else ""
    show(Line(f"{sandbox.name} now lives until {expires}.{capped}", "yellow" if capped else ""))


async def _extend(name: str, duration: str, owner: str | None) -> Extension:
    async with opened() as core:
        return await core.manager.extend(caller.actor(owner, core.settings), name, duration)
