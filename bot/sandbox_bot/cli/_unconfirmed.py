"""Names the gateway processes that have not confirmed a change of routes."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from sandbox_core.manager import Changed
from sandbox_core.switch_text import unconfirmed_text


def unconfirmed_of(changes: Iterable[Changed]) -> list[str]:
    """Return the processes that have not confirmed one of these changes, each once."""
    return sorted({process for changed in changes for process in changed.unconfirmed})


def note_unconfirmed(*changes: Changed) -> None:
    """Write these processes to standard error, if there are any."""
    text = unconfirmed_text(unconfirmed_of(changes))
    if text:
        typer.echo(text, err=True)
