"""`list`: shows sandboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated

import typer

from sandbox_core.bootstrap import Core
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.manager import utc_now
from sandbox_core.models import Sandbox, SandboxStatus

from . import _json as json
from . import _options as options
from . import _views as views
from ._exit import run
from ._screen import (
    busy,
    emit,
    note,
    on_terminal,
    show,
)
from ._session import opened

_COUNTED_WITHIN = 1.5


def list_(
    owner: options.OwnerFilter = None,
    status: Annotated[
        SandboxStatus | None, typer.Option("--status", help="Only those with this status.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Destroyed ones too.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show sandboxes, newest first."""
    with busy("Listing"):
        sandboxes, clients = run(_list(owner, status, everything))
    now = utc_now()
    if as_json:
        emit(json.listing(sandboxes, clients, now))
    elif sandboxes or not on_terminal():
        # A pipe always gets the headings, also without rows.
        show(views.listing(sandboxes, clients, now, absolute=not on_terminal()))
    else:
        note("No sandbox matches." if owner or status else "There are no sandboxes.")


async def _list(
    owner: str | None, status: SandboxStatus | None, everything: bool
) -> tuple[list[Sandbox], Mapping[str, int] | None]:
    async with opened() as core:
        found = await core.manager.list(owner=owner, status=status, include_destroyed=everything, shared=True)
        return found, await _clients(core) if found else {}


async def _clients(core: Core) -> Mapping[str, int] | None:
    """How many bots are connected, by sandbox; None without Redis, which the rest does not need."""
    try:
        async with asyncio.timeout(_COUNTED_WITHIN):
            return await core.tenants.traces.connected()
    except (DependencyUnavailable, TimeoutError):
        return None
