"""Gives each log line the id of the command that caused it, and traces the command if tracing is on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from structlog.contextvars import bound_contextvars

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core


@contextmanager
def correlated(core: Core, command: str, *, cause_id: int, user_id: int) -> Iterator[None]:
    """Add the id of the interaction or message to all log lines while the context is entered.

    Tasks that start in this time keep the id until they end.
    """
    tracing = core.tracing
    facts = {"correlation_id": str(cause_id), "user_id": str(user_id)}
    with bound_contextvars(**facts), tracing.command(command, **facts) if tracing else nullcontext():
        yield
