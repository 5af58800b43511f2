"""The standard streams as a command finds them: closed, full, given up by their reader, or plain ASCII."""

from __future__ import annotations

import errno
import io
import os
import sys

import typer

from ..exit_codes import ExitCode

_STDOUT = 1


class OutputLost(Exception):
    """Standard output took no more; `reason` is the operating system's error."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason.strerror)
        self.reason = reason


def prepare() -> None:
    """Make the three streams usable, whatever the caller has left of them."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next socket has this number, and whatever is written goes there. `open` takes the
            # lowest number that is free: this one.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without some character must not end the command.
            stream.reconfigure(errors="replace")


def write(text: str, *, newline: bool = True) -> None:
    """Write to standard output at once. Raises `OutputLost`."""
    try:
        typer.echo(text, nl=newline)
    except OSError as error:
        raise OutputLost(error) from error


def give_up(lost: OutputLost) -> ExitCode:
    """The exit code for a command whose output is lost, after saying so where that is news."""
    # What is still buffered would fail once more when the interpreter ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDOUT)
    os.close(nowhere)
    if lost.reason.errno == errno.EPIPE:
        # Who reads has had enough, as `head` has after its lines.
        return ExitCode.UNREAD
    typer.echo(f"Standard output can't be written: {lost.reason.strerror}.", err=True)
    return ExitCode.REFUSED
