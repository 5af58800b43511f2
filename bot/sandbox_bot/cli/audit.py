"""`audit`: shows the history of a sandbox."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.models import AuditEntry

from . import _json as json
from . import _options as options
from . import _views as views
from ._exit import run
from ._screen import busy, emit, show
from ._session import opened


def audit(
    name: options.Name,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: options.Json = False,
) -> None:
    """Show who changed what of a sandbox, oldest first; also of a destroyed one."""
    with busy("Reading"):
        entries = run(_audit(name, limit))
    if as_json:
        emit(json.audit(entries))
        return
    show(views.audit(entries))


async def _audit(name: str, limit: int) -> list[AuditEntry]:
    async with opened() as core:
        return await core.manager.audit(name, limit=limit)
