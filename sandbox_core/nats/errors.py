"""Turns nats-py's errors into this project's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors

from sandbox_core.errors import DependencyFaulty, DependencyUnavailable

DEPENDENCY = "NATS"

_SILENT = "JetStream does not answer: it is off, or its cluster has no leader"
# By the codes of JetStream's API. https://github.com/nats-io/nats-server/blob/main/server/errors.json
_CODES = {
    10008: "JetStream's cluster has no leader: more than half of its servers have to run",
    10023: "JetStream has no room left",
    10028: "JetStream has no room left",
    10039: "the user's account has no JetStream",
    10047: "JetStream has no room left",
    10076: "JetStream is off",
}

_NO_STORE = "error creating store"
"""In the text of an error whose code stands for anything that hinders making a stream or a consumer."""

# First match decides. The sentences are ours: the driver's texts may name hosts and users.
_FAULTY: tuple[tuple[type[BaseException], str], ...] = (
    (nats.js.errors.NoStreamResponseError, _SILENT),
    (nats.js.errors.ServiceUnavailableError, _SILENT),
    (nats.js.errors.ServerError, "JetStream reports a fault"),
    (nats.errors.NoRespondersError, _SILENT),
    (nats.errors.AuthorizationError, "it refused the login"),
)
_AWAY: tuple[tuple[type[BaseException], str], ...] = (
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


_ATTEMPTS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "its host name can't be resolved"),
    (ConnectionRefusedError, "connection refused"),
    (TimeoutError, "no answer in time"),
    (nats.errors.TimeoutError, "no answer in time"),
)

INSTEAD = "raise_instead"
"""The attribute of a driver's error with the error to raise instead; see `login`."""


def note(error: BaseException, instead: DependencyUnavailable) -> None:
    """Have `unavailable` return `instead` for this error: its class stays, as nats-py goes by it."""
    setattr(error, INSTEAD, instead)


def unavailable(error: BaseException) -> DependencyUnavailable | None:
    """The error to raise when `error` says that NATS can't be used now, else None."""
    # nats-py replaces some errors by others of its own.
    for each in (error, error.__context__):
        instead = getattr(each, INSTEAD, None)
        if isinstance(instead, DependencyUnavailable):
            return instead
    for kind, reason in _FAULTY:
        if isinstance(error, kind):
            return DependencyFaulty(DEPENDENCY, _said(error) or reason)
    for kind, reason in _AWAY:
        if isinstance(error, kind):
            return DependencyUnavailable(DEPENDENCY, reason)
    return None


def how_it_ended(error: BaseException) -> str:
    """Return how an attempt to connect ended; "" when the error does not tell."""
    if "INFO message" in str(error) or "json parse error" in str(error):
        # nats-py's texts when something else greets, or nothing.
        return "what answers there is not NATS"
    return next((words for kind, words in _ATTEMPTS if isinstance(error, kind)), "")


def _said(error: BaseException) -> str:
    """What JetStream's API says, when it says something."""
    if not isinstance(error, nats.js.errors.APIError) or error.err_code is None:
        return ""
    said = meaning(error.err_code, error.description)
    return f"JetStream reports: {said}" if said == error.description else said


def meaning(code: int | None, description: str | None) -> str:
    """Return what an error of JetStream's means: its own texts are fixed, at most with names of streams."""
    if _NO_STORE in (description or ""):
        return "JetStream can't store on its disk"
    return _CODES.get(code or 0, description or "an unknown error")


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
