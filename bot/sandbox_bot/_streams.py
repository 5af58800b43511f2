"""Copes with standard streams that are closed, full, without a reader, or ASCII only."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

import typer

from .exit_codes import ExitCode

_STDOUT, _STDERR = 1, 2


class OutputLost(Exception):
    """Standard output can't be written; `reason` is the operating system's error."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason.strerror)
        self.reason = reason


class _Wrapped:
    """A stream with some methods of ours."""

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Stdout(_Wrapped):
    """Standard output that raises `OutputLost`, whoever writes to it.

    The libraries that print help and tables would end with a traceback or with a code of their own.
    """

    def write(self, text: str) -> int:
        """Write text. Raises `OutputLost`."""
        with _losing():
            return self._inner.write(text)

    def flush(self) -> None:
        """Hand over what is buffered. Raises `OutputLost`."""
        with _losing():
            self._inner.flush()


class _Stderr(_Wrapped):
    """Standard error that loses what nobody takes: the exit code still says how the command ended."""

    def write(self, text: str) -> int:
        """Write text if it can be written."""
        try:
            return self._inner.write(text)
        except OSError:
            _to_nowhere(_STDERR)
            return len(text)

    def flush(self) -> None:
        """Hand over what is buffered, if it can be written."""
        try:
            self._inner.flush()
        except OSError:
            _to_nowhere(_STDERR)


def _to_nowhere(descriptor: int) -> None:
    # Otherwise the buffered text would fail again when the interpreter ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputLost(error) from error


def prepare() -> None:
    """Make the three standard streams usable, even when the caller has closed some."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next socket would get this number, and output would go there. `open` takes the
            # lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal lacks must not end the command.
            stream.reconfigure(errors="replace")
    if not isinstance(sys.stdout, _Stdout):
        sys.stdout = cast("TextIO", _Stdout(sys.stdout))
    if not isinstance(sys.stderr, _Stderr):
        sys.stderr = cast("TextIO", _Stderr(sys.stderr))


def can_draw(stream: TextIO) -> bool:
    """Return whether a spinner can turn there.

    It can't where FORCE_COLOR asks for colours in a file. A screen reader would read each turn: with
    ACCESSIBLE in the environment, or TERM=dumb, there is none.
    """
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("ACCESSIBLE")


def write(text: str, *, newline: bool = True) -> None:
    """Write to standard output at once. Raises `OutputLost`."""
    with _losing():
        typer.echo(text, nl=newline)


def write_bytes(data: bytes) -> None:
    """Write bytes to standard output at once, as they are. Raises `OutputLost`."""
    with _losing():
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def give_up(lost: OutputLost) -> ExitCode:
    """Return the exit code after lost output; print the reason, unless the reader closed the pipe."""
    _to_nowhere(_STDOUT)
    if lost.reason.errno == errno.EPIPE:
        # The reader has read enough, as `head` does.
        return ExitCode.UNREAD
    typer.echo(f"Standard output can't be written: {lost.reason.strerror}.", err=True)
    return ExitCode.REFUSED
