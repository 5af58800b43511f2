"""`exec`: runs a command in the environment of a sandbox."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from sandbox_core.settings import load_settings

from . import _options as options
from ._exit import fail, run
from ._servers import worker_addresses
from ._worker import environment_of

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
"""The exit codes of a shell when it can't run a command."""


def exec_(
    name: options.Name,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="What to run, and its arguments.")
    ],
    owner: options.Owner = None,
) -> None:
    """Run a command inside a sandbox's environment: sandboxctl exec NAME -- python worker.py."""
    # A worker finds the servers also when only `.env` names them.
    variables = run(environment_of(name, owner)) | worker_addresses(load_settings())
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
