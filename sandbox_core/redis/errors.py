"""Turns redis-py's errors into this project's. No other module does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as rd

from sandbox_core.errors import DependencyUnavailable

DEPENDENCY = "Redis"

# The first match decides. The sentences are ours: the driver's texts may contain hosts and users.
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (rd.AuthenticationError, "it refused the login"),
    (rd.BusyLoadingError, "it is loading its data"),
    (rd.MaxConnectionsError, "no free connection"),
    (rd.TimeoutError, "no answer in time"),
    (rd.ConnectionError, "it can't be reached"),
    (rd.ReadOnlyError, "it takes no writes at present"),
    (rd.OutOfMemoryError, "it is out of memory"),
    (rd.NoPermissionError, "its user may not do this"),
    (rd.ClusterDownError, "its cluster is down"),
    (rd.AskError, "it is a node of a cluster, and a single server is needed"),
    (rd.ClusterCrossSlotError, "it is a node of a cluster, and a single server is needed"),
    (TimeoutError, "no answer in time"),
    (OSError, "it can't be reached"),
)

# Too few replicas, a failed save to disk, a replica without its primary: redis-py has no class for them.
# In a pipeline the command comes before the server's text.
_NO_WRITES = re.compile(r"(?:\A|caused error: \(')(?:NOREPLICAS|MISCONF|MASTERDOWN)\b")

_KIND = re.compile(r"(?:\A|caused error: \(')([A-Z]{2,20})\b")

INSTEAD = "raise_instead"
"""The attribute of redis-py's error with the error to raise instead; see `login`."""


def unavailable(error: BaseException) -> DependencyUnavailable | None:
    """Return the error to raise when `error` means that Redis can't be used now, else None."""
    instead = getattr(error, INSTEAD, None)
    if isinstance(instead, DependencyUnavailable):
        return instead
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return DependencyUnavailable(DEPENDENCY, reason)
    if isinstance(error, rd.ResponseError) and _NO_WRITES.search(str(error)):
        return DependencyUnavailable(DEPENDENCY, "it takes no writes at present")
    return None


def _badly_answered(said: str) -> DependencyUnavailable:
    """Return the error for any other error reply.

    A reply starts with its kind in capitals, such as BUSY. The rest may contain keys and is not repeated.
    """
    kind = _KIND.search(said)
    if kind is None or kind[1] == "ERR":
        return DependencyUnavailable(DEPENDENCY, "it answered with an error")
    if kind[1] == "BUSY":
        return DependencyUnavailable(DEPENDENCY, "it is busy with a script")
    return DependencyUnavailable(DEPENDENCY, f"it answered with the error {kind[1]}")


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
            if not isinstance(error, rd.ResponseError):
                raise
            away = _badly_answered(str(error))
        raise away from error
