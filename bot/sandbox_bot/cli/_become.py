"""Replaces this process by a program that the caller named."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from typing import NoReturn

from ._exit import fail

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
"""The exit codes of a shell when it can't run a command."""


def become(
    command: list[str],
    variables: Mapping[str, str],
    *,
    without: Collection[str] = (),
    otherwise: str = "",
) -> NoReturn:
    """Run the command with these variables in addition to this process's; ends when it can't be run.

    Of this process's variables those `without` are left out.

    `otherwise` follows the sentence that there is no such command.
    """
    program = command[0]
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(program, command, {**inherited, **variables})  # noqa: S606 (what the caller asked for)
    except FileNotFoundError:
        fail([f"There is no command `{program}`{otherwise}."], _NOT_FOUND)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fail([f"The command `{program}` can't be run: {reason}."], _NOT_EXECUTABLE)
