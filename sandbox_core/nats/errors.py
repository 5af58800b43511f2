"""Turns nats-py's errors into this project's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors

from sandbox_core.errors import DependencyUnavailable

DEPENDENCY = "NATS"

# First match decides. The sentences are ours: the driver's texts may name hosts and users.
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (nats.js.errors.NoStreamResponseError, "JetStream does not answer"),
    (nats.js.errors.ServiceUnavailableError, "JetStream does not answer"),
    (nats.js.errors.ServerError, "JetStream reports a fault"),
    (nats.errors.NoRespondersError, "JetStream does not answer"),
    (nats.errors.AuthorizationError, "it refused the login"),
    (nats.errors.TimeoutError, "no answer in time"),
    (TimeoutError, "no answer in time"),
    (nats.errors.NoServersError, "no server accepts connections"),
    (nats.errors.ConnectionClosedError, "the connection is closed"),
    (nats.errors.ConnectionReconnectingError, "the connection was lost"),
    (nats.errors.ConnectionDrainingError, "the connection is closed"),
    (nats.errors.StaleConnectionError, "the connection was lost"),
    (nats.errors.OutboundBufferLimitError, "the connection was lost"),
    (OSError, "the connection was lost"),
)


def unavailable(error: BaseException) -> DependencyUnavailable | None:
    """The error to raise when `error` says that NATS can't be used now, else None."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return DependencyUnavailable(DEPENDENCY, reason)
    return None


@contextmanager
def translating() -> Iterator[None]:
    """Run driver calls; when NATS is away they raise `DependencyUnavailable`.

    What means something to the caller, such as `NotFoundError`, passes unchanged, and so do faults.
    """
    try:
        yield
    except (OSError, nats.errors.Error) as error:
        away = unavailable(error)
        if away is None:
            raise
        raise away from error
