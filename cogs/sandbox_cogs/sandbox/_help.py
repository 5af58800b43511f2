"""Shows the commands and the limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from discord import app_commands

from . import _render
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

Command = app_commands.Command[Any, ..., Any] | app_commands.Group


async def show(core: Core, commands: Iterable[Command]) -> Answer:
    """Return the commands with their descriptions, and the limits."""
    settings = core.settings
    embed = _render.command_help(
        [(command.qualified_name, command.description) for command in commands],
        default_hours=settings.sandbox_default_ttl_hours,
        longest_hours=settings.sandbox_max_ttl_hours,
        most=settings.sandbox_max_per_owner,
    )
    return Answer(embed)
