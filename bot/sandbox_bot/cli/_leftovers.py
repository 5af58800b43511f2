"""Ends a command that could not remove all it found."""

from __future__ import annotations

from sandbox_core.cleanup import OrphanCleanup, OrphanReport
from sandbox_core.errors import DependencyUnavailable

from ..exit_codes import ExitCode
from ._exit import fail


def end_with_failures(failed: list[str], found: OrphanReport, done: OrphanCleanup | None) -> None:
    """End the command with an exit code for the failures, if there are any."""
    not_removed = done.failed if done is not None else {}
    failed += [f"{orphan.name} was not removed: {reason}" for orphan, reason in not_removed.items()]
    away = [f"{DependencyUnavailable.code}: {why} It was not searched." for why in found.unreadable.values()]
    if failed or away:
        fail([*failed, *away], ExitCode.DEPENDENCY if away else ExitCode.REFUSED)
