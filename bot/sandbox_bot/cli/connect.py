"""`connect`: prints the environment for a worker in a sandbox."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from .._streams import write
from . import _options as options
from ._environment import as_dotenv, as_exports, as_fish
from ._exit import run
from ._screen import busy, emit, note, on_terminal
from ._worker import environment_of


class Format(StrEnum):
    """The formats of an environment."""

    SH = "sh"
    DOTENV = "dotenv"
    JSON = "json"
    FISH = "fish"


def connect(
    name: options.OptionalName = None,
    owner: options.Owner = None,
    form: Annotated[
        Format, typer.Option("--format", help="sh: exports for eval; dotenv: a .env file; json; fish.")
    ] = Format.SH,
    as_json: options.Json = False,
) -> None:
    """Print the environment of a sandbox: eval "$(sandboxctl connect NAME)"."""
    with busy("Looking it up"):
        variables = run(environment_of(name, owner))
    if as_json or form is Format.JSON:
        emit(variables)
        return
    writer = {Format.SH: as_exports, Format.DOTENV: as_dotenv, Format.FISH: as_fish}[form]
    write(writer(variables), newline=False)
    if on_terminal() and form is Format.SH:
        note(f'\nTo set these in this shell: eval "$(sandboxctl connect {variables["SANDBOX_NAME"]})"')
