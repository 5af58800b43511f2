"""Waits until the streams are there and usable, and makes those that are missing."""

from __future__ import annotations

import asyncio
from typing import Protocol

import nats.errors
import structlog

from sandbox_core.error_text import explain
from sandbox_core.errors import DependencyUnavailable, StreamUnusable

_log = structlog.get_logger("sandbox.nats")

_PAUSES = (0.05, 0.1, 0.25, 0.5, 1.0)


class EnsuresStreams(Protocol):
    """Makes missing streams; see `Streams`."""

    async def ensure(self) -> None:
        """Raises `DependencyUnavailable` when NATS does not answer."""


async def usable(streams: EnsuresStreams) -> None:
    """Return when the streams can be used, however often that has to be tried."""
    attempt = 0
    told: str | None = None
    while True:
        try:
            await streams.ensure()
            return
        except (DependencyUnavailable, nats.errors.Error) as error:
            pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
            attempt += 1
            unusable = isinstance(error, StreamUnusable)
            reason = _reason(error)
            # Once, but for each reason that only an operator can take away.
            if attempt >= len(_PAUSES) and (told is None or (unusable and told != reason)):
                told = reason
                _log.warning("publishing_waits", dependency="NATS", reason=reason)
            await asyncio.sleep(pause)


def _reason(error: Exception) -> str:
    """Return what hinders, with what to do where an operator has to."""
    if isinstance(error, StreamUnusable):
        return str(explain(error))
    return error.reason if isinstance(error, DependencyUnavailable) else type(error).__name__
