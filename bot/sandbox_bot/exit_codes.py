"""What a process of this project ends with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The same for every command; listed in `docs/cli.md`."""

    DONE = 0
    REFUSED = 1
    """The answer is no; standard error says why, with the code."""
    USAGE = 2
    """Wrong usage or settings."""
    DEPENDENCY = 3
    """A server that is needed is away."""
    INTERRUPTED = 130
    """Ended by Ctrl-C, as shells number it: 128 and the signal."""
    UNREAD = 141
    """Whoever read standard output has closed it; numbered as for other programs, which SIGPIPE ends."""
