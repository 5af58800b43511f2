"""`audit`: shows the history of a sandbox."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.models import AuditEntry
from sandbox_core.production import history

from . import _json as json
from . import _options as options
from . import _views as views
from ._exit import run, usage
from ._screen import busy, emit, show
from ._session import opened


def audit(
    name: options.NameUnlessProduction = None,
    *,
    production: Annotated[
        bool, typer.Option("--production", help="In place of a sandbox, the token of production's own bot.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: options.Json = False,
) -> None:
    """Show who changed what of a sandbox, oldest first; also of a destroyed one."""
    with busy("Reading"):
        entries = run(_audit(name, limit, production=production))
    if as_json:
        emit(json.audit(entries))
        return
    show(views.audit(entries))


async def _audit(name: str | None, limit: int, *, production: bool) -> list[AuditEntry]:
    if production == (name is not None):
        raise usage("Say whose: the sandbox's NAME, or --production.")
    async with opened() as core:
        if name is None:
            return await history(core.pool, limit=limit)
        return await core.manager.audit(name, limit=limit)
