"""Shows the environment for a worker inside a sandbox, to its owner, and to colleagues who may use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import AnyBot
from sandbox_core.context import environment
from sandbox_core.manager.rules import CONNECT
from sandbox_core.models import Actor, Sandbox

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
    core.manager.check_may_manage(actor, sandbox, CONNECT)
    core.manager.check_running(sandbox)
    return environment_of(core, actor, sandbox, f"Environment of {sandbox.name}")


def environment_of(core: Core, actor: Actor, sandbox: Sandbox, title: str) -> Answer:
    """Return the environment with the credentials that are the caller's. Raises `NoCredentials`."""
    settings = core.settings
    credentials = core.manager.credentials_for(actor, sandbox)
    variables = environment(sandbox, settings.stream_names, settings.sandbox_max_deliveries)
    embed, file = _render.environment(sandbox, variables | credentials, title)
    return Answer(embed, file=file)
