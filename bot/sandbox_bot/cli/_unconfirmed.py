"""Telling which gateway processes have not confirmed a change of routes."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from sandbox_core.models import Sandbox
from sandbox_core.switch_text import unconfirmed_text


def unconfirmed_of(sandboxes: Iterable[Sandbox]) -> list[str]:
    """The processes that any of these changes is not confirmed by, each once."""
    return sorted({process for sandbox in sandboxes for process in sandbox.unconfirmed})


def note_unconfirmed(sandboxes: Iterable[Sandbox]) -> None:
    """Say so on standard error, where there is something to say."""
    text = unconfirmed_text(unconfirmed_of(sandboxes))
    if text:
        typer.echo(text, err=True)
