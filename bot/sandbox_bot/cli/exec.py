"""`exec`: runs a command in the environment of a sandbox."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.settings import load_settings

from . import _options as options
from ._become import become
from ._exit import run
from ._servers import secret_variables, worker_addresses
from ._worker import environment_of


def exec_(
    name: options.Name,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="What to run, and its arguments.")
    ],
    owner: options.Owner = None,
) -> None:
    """Run a command inside a sandbox's environment: sandboxctl exec NAME -- python worker.py."""
    # First: it says plainly which settings are wrong.
    own = run(environment_of(name, owner))
    settings = load_settings()
    # A worker finds the servers also when only `.env` names them.
    variables = worker_addresses(settings) | own
    # A worker with credentials of its own gets none of the bot's.
    without = secret_variables(settings) if "DATABASE_URL" in own else ()
    # The parser leaves this in front of the command.
    if command[0] == "--" and len(command) > 1:
        command = command[1:]
    become(command, variables, without=without)
