"""Ties every log line to the command that caused it, and traces the command where there are traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from structlog.contextvars import bound_contextvars

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core


@contextmanager
def correlated(core: Core, command: str, *, cause_id: int, user_id: int) -> Iterator[None]:
    """While entered, log lines carry the id of the interaction or message that caused them.

    So do those of tasks begun meanwhile, for as long as they run.
    """
    tracing = core.tracing
    facts = {"correlation_id": str(cause_id), "user_id": str(user_id)}
    with bound_contextvars(**facts), tracing.command(command, **facts) if tracing else nullcontext():
        yield
