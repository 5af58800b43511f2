"""Names of sandboxes for the shell's completion: soon, or none at all."""

from __future__ import annotations

import asyncio
import os

from sandbox_core.bootstrap import NatsUse, open_core
from sandbox_core.settings import load_settings

from ._loop import run_on_fast_loop
from ._session import silence

_WITHIN = 1.0


def suggest_names(incomplete: str) -> list[tuple[str, str]]:
    """Sandboxes whose name has `incomplete` in it, `SANDBOX_OWNER`'s first; empty when anything fails."""
    silence()
    try:
        return run_on_fast_loop(_suggest(incomplete))
    except Exception:
        # Whatever it is, words in the middle of somebody's command line would be worse than no list.
        return []


async def _suggest(incomplete: str) -> list[tuple[str, str]]:
    settings = load_settings()
    async with (
        asyncio.timeout(_WITHIN),
        open_core(settings, follow_routes=False, use_nats=NatsUse.NOTHING) as core,
    ):
        own = os.environ.get("SANDBOX_OWNER", "")
        found = await core.manager.suggest(incomplete, owner_first=own)
        # A shell completes what begins so; the rest would replace what was typed.
        return [
            (sandbox.name, f"{sandbox.status}") for sandbox in found if sandbox.name.startswith(incomplete)
        ]
