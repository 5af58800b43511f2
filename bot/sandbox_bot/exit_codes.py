"""The exit codes of this project's processes."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of all commands; `docs/cli.md` lists them."""

    DONE = 0
    REFUSED = 1
    """Refused; standard error says why, with the error's code."""
    USAGE = 2
    """Wrong usage or settings."""
    DEPENDENCY = 3
    """A needed server is away."""
    INTERRUPTED = 130
    """Ended by Ctrl-C: 128 plus the signal, as in shells."""
    UNREAD = 141
    """The reader has closed standard output; the number of a program that SIGPIPE ends."""
