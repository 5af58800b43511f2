"""Writes one log line for each operation on a sandbox, always with the same fields.

Fields: `operation`, `actor`, `sandbox_id`, `sandbox_name`, `owner`, `guild_id`, `duration_ms`, `error_code`.
During an operation every other log line has `operation`, too; callers add `correlation_id`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import structlog
from structlog.contextvars import bound_contextvars

from .errors import SandboxError
from .models import Actor, GuildAccess, Sandbox

P = ParamSpec("P")
R = TypeVar("R")

_log = structlog.get_logger("sandbox.operations")

INTERNAL = "INTERNAL"
"""The error code for an error without one."""


def logged(
    operation: str,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Log each call of an async function under this name when it ends, also with an error."""

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @functools.wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            facts = _facts_of((*args, *kwargs.values()))
            started = time.perf_counter()
            with bound_contextvars(operation=operation):
                try:
                    result = await function(*args, **kwargs)
                except SandboxError as error:
                    _ended(_log.info, "operation_refused", started, facts, error_code=error.code)
                    raise
                except Exception:
                    # The code that answers the caller logs the traceback, under the id that the caller sees.
                    _ended(_log.warning, "operation_failed", started, facts, error_code=INTERNAL)
                    raise
                except BaseException:
                    _ended(_log.info, "operation_cancelled", started, facts)
                    raise
                _ended(_log.info, "operation_done", started, facts | _facts_of((result,)))
                return result

        return call

    return decorate


@contextmanager
def about(operation: str, sandbox: Sandbox) -> Iterator[None]:
    """Add the operation and its sandbox to every log line while the context is entered."""
    with bound_contextvars(operation=operation, **facts_of(sandbox)):
        yield


def facts_of(sandbox: Sandbox) -> dict[str, str]:
    """Return the fields of log lines about a sandbox."""
    return {"sandbox_id": str(sandbox.id), "sandbox_name": sandbox.name, "owner": sandbox.owner}


def _facts_of(values: tuple[object, ...]) -> dict[str, str]:
    facts: dict[str, str] = {}
    for value in values:
        if isinstance(value, Actor):
            facts["actor"] = value.id
        elif isinstance(value, GuildAccess):
            facts["guild_id"] = value.guild_id
        else:
            # Some results contain the sandbox and more.
            sandbox = getattr(value, "sandbox", value)
            if isinstance(sandbox, Sandbox):
                facts |= facts_of(sandbox)
    return facts


def _ended(
    log: Callable[..., object], event: str, started: float, facts: dict[str, str], **more: str
) -> None:
    log(event, **facts, **more, duration_ms=round((time.perf_counter() - started) * 1000, 1))
