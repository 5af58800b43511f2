"""Ends a command: with its result, or with one line per problem and an exit code; never a traceback."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import typer

from sandbox_core.errors import CleanupFailed, DependencyUnavailable, SandboxError
from sandbox_core.settings import OF_A_SANDBOX, SettingsError

from .._streams import OutputLost
from ..exit_codes import ExitCode
from ._loop import run_on_fast_loop
from ._words import error_line

_Result = TypeVar("_Result")


class CommandFailed(Exception):
    """Ends the command with exit code `code`, after these lines on standard error."""

    def __init__(self, lines: Sequence[str], code: ExitCode) -> None:
        super().__init__(*lines)
        self.lines = tuple(lines)
        self.code = code


def usage(sentence: str) -> CommandFailed:
    """Return the error for a command line that lacks something."""
    return CommandFailed([sentence], ExitCode.USAGE)


def run(work: Coroutine[Any, Any, _Result], *, interrupted: ExitCode = ExitCode.INTERRUPTED) -> _Result:
    """Return the result of `work`; an error ends the command with the exit code of the error.

    `interrupted` is the exit code for Ctrl-C.
    """
    try:
        return run_on_fast_loop(work)
    except CommandFailed as failed:
        fail(failed.lines, failed.code)
    except SettingsError as error:
        fail([*error.problems, *_inside(error.problems)], ExitCode.USAGE)
    except SandboxError as error:
        fail([error_line(error)], exit_code(error))
    except KeyboardInterrupt:
        raise typer.Exit(interrupted) from None
    except OutputLost:
        # Standard output was closed, for example during `status --watch`; the caller handles it.
        raise
    except Exception as error:
        # An unexpected error: its text may contain secrets, so only its type is shown.
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            traceback.print_exception(error)
        kind = type(error).__name__
        fail(
            [f"Something went wrong inside sandboxctl ({kind}); LOG_LEVEL=DEBUG shows where."],
            ExitCode.REFUSED,
        )


def exit_code(error: SandboxError) -> ExitCode:
    """Return the exit code for an error."""
    cause = error.__cause__ if isinstance(error, CleanupFailed) else error
    return ExitCode.DEPENDENCY if isinstance(cause, DependencyUnavailable) else ExitCode.REFUSED


_stop_first: list[Callable[[], None]] = []


@contextmanager
def stopped_before_words(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` before the body's failure is printed: drawing on the terminal must end first."""
    _stop_first.append(stop)
    try:
        yield
    finally:
        _stop_first.remove(stop)


def fail(lines: Sequence[str], code: int) -> NoReturn:
    """End the command with these lines on standard error."""
    for stop in _stop_first:
        stop()
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(code)


def _inside(problems: Sequence[str]) -> list[str]:
    """Say where the servers' addresses may come from: what `connect` shows replaces the bot's own."""
    if "SANDBOX_ID" not in os.environ or any(OF_A_SANDBOX in each for each in problems):
        return []
    return ["SANDBOX_ID is set: this shell may have the addresses of a sandbox. Use another shell."]
