"""Completes names of sandboxes and templates in the shell: fast, or not at all."""

from __future__ import annotations

import asyncio
import os

from sandbox_core.bootstrap import NatsUse, open_core
from sandbox_core.settings import load_settings
from sandbox_core.templates import NONE, Templates

from ._loop import run_on_fast_loop
from ._session import silence

_WITHIN = 1.0


def suggest_names(incomplete: str) -> list[tuple[str, str]]:
    """Return names that start with `incomplete`, `SANDBOX_OWNER`'s first; empty when anything fails."""
    silence()
    try:
        return run_on_fast_loop(_suggest(incomplete))
    except Exception:
        # Any failure: an error text in the middle of a command line is worse than no list.
        return []


def suggest_templates(incomplete: str) -> list[str]:
    """Return names of templates that start with `incomplete`; empty when anything fails."""
    silence()
    try:
        found = asyncio.run(Templates.of(load_settings()).names())
    except Exception:
        # As above.
        return []
    return [name for name in [*found, NONE] if name.startswith(incomplete)]


async def _suggest(incomplete: str) -> list[tuple[str, str]]:
    settings = load_settings()
    async with (
        asyncio.timeout(_WITHIN),
        open_core(settings, follow_routes=False, use_nats=NatsUse.NOTHING) as core,
    ):
        own = os.environ.get("SANDBOX_OWNER", "")
        found = await core.manager.suggest(incomplete, owner_first=own)
        # Any other name would replace the typed text in the shell.
        return [
            (sandbox.name, f"{sandbox.status}") for sandbox in found if sandbox.name.startswith(incomplete)
        ]
