"""Shows the environment for a worker inside a sandbox, only to the sandbox's owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.context import environment
from sandbox_core.models import Sandbox

from . import _render
from ._access import actor_of
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core


async def connect(core: Core, interaction: discord.Interaction[AnyBot], reference: str) -> Answer:
    """Return the environment as a block and as a file. Raises `NotPermitted`, `SandboxNotRunning` and
    `NoCredentials`.
    """
    actor = await actor_of(interaction, core.settings)
    sandbox = await core.manager.get(reference)
    core.manager.check_may_manage(actor, sandbox, "connect to")
    core.manager.check_running(sandbox)
    return environment_of(core, sandbox, f"Environment of {sandbox.name}")


def environment_of(core: Core, sandbox: Sandbox, title: str) -> Answer:
    """Return the environment with the sandbox's credentials. Raises `NoCredentials`."""
    settings = core.settings
    variables = environment(sandbox, settings.stream_names, settings.sandbox_max_deliveries)
    embed, file = _render.environment(sandbox, variables | core.manager.credentials(sandbox), title)
    return Answer(embed, file=file)
