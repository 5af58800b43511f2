"""Counts the outcomes of interactions in the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord

from sandbox_cogs._core import CORE_ATTRIBUTE, AnyBot
from sandbox_core.errors import (
    CleanupFailed,
    DependencyUnavailable,
    IsolationImpossible,
    SandboxError,
    SchemaCreationFailed,
    StillWritten,
)

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core
    from sandbox_core.metrics import CommandOutcome


def outcome_of(cause: BaseException) -> CommandOutcome:
    """Return the outcome for a failure: refused by a rule, a server away, or a fault of the program."""
    if isinstance(cause, DependencyUnavailable):
        return "unavailable"
    if isinstance(cause, SchemaCreationFailed | CleanupFailed | StillWritten | IsolationImpossible):
        return "failed"
    return "refused" if isinstance(cause, SandboxError) else "failed"


def count(interaction: discord.Interaction[AnyBot], outcome: CommandOutcome) -> None:
    """Count the outcome of an interaction under its command's name."""
    core = _core(interaction)
    if core is not None:
        command = interaction.command
        core.metrics.command(command.name if command is not None else None, outcome)


def measure(interaction: discord.Interaction[AnyBot], seconds: float) -> None:
    """Observe how long an interaction took to answer."""
    core = _core(interaction)
    if core is not None:
        core.metrics.command_seconds.observe(seconds)


def _core(interaction: discord.Interaction[AnyBot]) -> Core | None:
    # None when the core was closed meanwhile: there are no metrics to count in.
    core: Core | None = getattr(interaction.client, CORE_ATTRIBUTE, None)
    return core
