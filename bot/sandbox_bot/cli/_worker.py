"""The environment of a worker in a sandbox."""

from __future__ import annotations

from sandbox_core.context import environment
from sandbox_core.manager.rules import CONNECT

from . import _caller as caller
from ._session import opened


async def environment_of(name: str | None, owner: str | None) -> dict[str, str]:
    """Return the environment of the sandbox `name`, or without a name of the owner's only one.

    It has the credentials of whoever calls: a colleague's are their own.
    """
    async with opened() as core:
        sandbox = await caller.named(core.manager, name, owner)
        actor = caller.actor(owner, core.settings)
        core.manager.check_may_manage(actor, sandbox, CONNECT)
        core.manager.check_running(sandbox)
        settings = core.settings
        variables = environment(sandbox, settings.stream_names, settings.sandbox_max_deliveries)
        return variables | core.manager.credentials_for(actor, sandbox)
