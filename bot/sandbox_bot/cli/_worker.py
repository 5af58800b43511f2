"""The environment of a worker in a sandbox."""

from __future__ import annotations

from sandbox_core.context import environment

from . import _caller as caller
from ._session import opened


async def environment_of(name: str | None, owner: str | None) -> dict[str, str]:
    """Return the environment of the sandbox `name`, or without a name of the owner's only one."""
    async with opened() as core:
        sandbox = await caller.named(core.manager, name, owner)
        core.manager.check_may_manage(caller.actor(owner, core.settings), sandbox, "connect to")
        core.manager.check_running(sandbox)
        settings = core.settings
        variables = environment(sandbox, settings.stream_names, settings.sandbox_max_deliveries)
        return variables | core.manager.credentials(sandbox)
