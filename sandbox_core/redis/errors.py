"""Turns redis-py's errors into this project's. No other module does."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as rd

from sandbox_core.errors import DependencyFaulty, DependencyUnavailable

DEPENDENCY = "Redis"

# The first match decides. The sentences are ours: the driver's texts may contain hosts and users.
# A word in capitals is the server's own.
_FAULTY: tuple[tuple[type[BaseException], str], ...] = (
    (rd.AuthenticationError, "it refused the login"),
    (rd.BusyLoadingError, "it is loading its data (LOADING)"),
    (rd.ReadOnlyError, "it takes no writes: it is a replica (READONLY)"),
    (rd.OutOfMemoryError, "its memory is full (OOM)"),
    (rd.NoPermissionError, "its user may not do this (NOPERM)"),
    (rd.MasterDownError, "it is a replica without its primary (MASTERDOWN)"),
    (rd.ClusterDownError, "its cluster is down (CLUSTERDOWN)"),
    (rd.AskError, "it is a node of a cluster, and a single server is needed"),
    (rd.ClusterCrossSlotError, "it is a node of a cluster, and a single server is needed"),
)

_AWAY: tuple[tuple[type[BaseException], str], ...] = (
    (rd.InvalidResponse, "what answers there is not Redis"),
    (socket.gaierror, "its host name can't be resolved"),
    (ConnectionRefusedError, "connection refused"),
    (rd.MaxConnectionsError, "no free connection"),
    (rd.TimeoutError, "no answer in time"),
    (rd.ConnectionError, "it can't be reached"),
    (TimeoutError, "no answer in time"),
    (OSError, "it can't be reached"),
)

# redis-py has no classes for these.
_WORDS = {
    "MISCONF": "it takes no writes: it can't save its data (MISCONF)",
    "NOREPLICAS": "it takes no writes: it has too few replicas (NOREPLICAS)",
    "BUSY": "it is busy with a script (BUSY)",
    "ERR": "it reports an error",
}

# In a pipeline the command comes before the server's text.
_KIND = re.compile(r"(?:\A|caused error: \(')([A-Z]{2,20})\b")

_CLOSED = "Connection closed by server"
"""redis-py's text, of a class that says less."""

INSTEAD = "raise_instead"
"""The attribute of redis-py's error with the error to raise instead; see `login`."""


def note(error: BaseException, instead: DependencyUnavailable) -> None:
    """Have `unavailable` return `instead` for this error: its class stays, as redis-py goes by it."""
    setattr(error, INSTEAD, instead)


def unavailable(error: BaseException) -> DependencyUnavailable | None:
    """Return the error to raise when `error` means that Redis can't be used now, else None."""
    instead = getattr(error, INSTEAD, None)
    if isinstance(instead, DependencyUnavailable):
        return instead
    for kind, reason in _FAULTY:
        if isinstance(error, kind):
            return DependencyFaulty(DEPENDENCY, reason)
    # redis-py puts an error of its own in place of the socket's, which says more.
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    if _CLOSED in str(error):
        return DependencyUnavailable(DEPENDENCY, "it closed the connection without an answer")
    for kind, reason in _AWAY:
        if isinstance(cause, kind):
            return DependencyUnavailable(DEPENDENCY, reason)
    return _badly_answered(str(error)) if isinstance(error, rd.ResponseError) else None


def _badly_answered(said: str) -> DependencyFaulty:
    """Return the error for any other error reply.

    A reply starts with its kind in capitals, such as BUSY. The rest may contain keys and is not repeated.
    """
    match = _KIND.search(said)
    kind = match[1] if match else "ERR"
    return DependencyFaulty(DEPENDENCY, _WORDS.get(kind, f"it reports the error {kind}"))


@contextmanager
def translating() -> Iterator[None]:
    """Run driver calls; when Redis is away, or answers with an error, they raise `DependencyUnavailable`.

    What redis-py itself refuses, such as a value that it can't send, passes unchanged.
    """
    try:
        yield
    except (OSError, rd.RedisError) as error:
        away = unavailable(error)
        if away is None:
            raise
        raise away from error
