"""Telling which gateway processes have not confirmed a change of routes."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from sandbox_core.manager import Changed
from sandbox_core.switch_text import unconfirmed_text


def unconfirmed_of(changes: Iterable[Changed]) -> list[str]:
    """The processes that any of these changes is not confirmed by, each once."""
    return sorted({process for changed in changes for process in changed.unconfirmed})


def note_unconfirmed(*changes: Changed) -> None:
    """Say so on standard error, where there is something to say."""
    text = unconfirmed_text(unconfirmed_of(changes))
    if text:
        typer.echo(text, err=True)
