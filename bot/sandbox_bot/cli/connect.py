"""`connect` and `exec`: the environment for a worker in a sandbox."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from sandbox_core.context import environment
from sandbox_core.settings import load_settings

from . import _caller as caller
from . import _options as options
from ._environment import as_dotenv, as_exports, as_fish
from ._outcome import fail, run
from ._screen import busy, emit, note, on_terminal
from ._servers import worker_addresses
from ._session import opened
from ._streams import write

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
"""The exit codes of a shell when it can't run a command."""


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
        variables = run(_environment(name, owner))
    if as_json or form is Format.JSON:
        emit(variables)
        return
    writer = {Format.SH: as_exports, Format.DOTENV: as_dotenv, Format.FISH: as_fish}[form]
    write(writer(variables), newline=False)
    if on_terminal() and form is Format.SH:
        note(f'\nTo set these in this shell: eval "$(sandboxctl connect {variables["SANDBOX_NAME"]})"')


def exec_(
    name: options.Name,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="What to run, and its arguments.")
    ],
    owner: options.Owner = None,
) -> None:
    """Run a command inside a sandbox's environment: sandboxctl exec NAME -- python worker.py."""
    # A worker finds the servers also when only `.env` names them.
    variables = run(_environment(name, owner)) | worker_addresses(load_settings())
    # The parser leaves this in front of the command.
    if command[0] == "--" and len(command) > 1:
        command = command[1:]
    program = command[0]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(program, command, {**os.environ, **variables})  # noqa: S606 (the caller's own command)
    except FileNotFoundError:
        fail([f"There is no command `{program}`."], _NOT_FOUND)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fail([f"The command `{program}` can't be run: {reason}."], _NOT_EXECUTABLE)


async def _environment(name: str | None, owner: str | None) -> dict[str, str]:
    async with opened() as core:
        sandbox = await caller.named(core.manager, name, owner)
        core.manager.check_may_manage(caller.actor(owner, core.settings), sandbox, "connect to")
        core.manager.check_running(sandbox)
        return environment(sandbox, core.settings.stream_names)
