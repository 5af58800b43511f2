"""`events`: a sandbox's events."""

from __future__ import annotations

import typer

from ._default_command import DefaultsToList
from ._emit import emit

app = typer.Typer(
    cls=DefaultsToList,
    no_args_is_help=True,
    help="Make events in a sandbox.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("emit")(emit)


@app.callback()
def _group() -> None:
    """Make events in a sandbox."""
