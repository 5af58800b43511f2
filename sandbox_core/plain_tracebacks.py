"""Tracebacks without the values of variables, in a process that has not configured structlog itself.

structlog's default shows every local variable. Some contain a password or the token, and one that is nested
deep enough ends the logging call with a `RecursionError`.
"""

from __future__ import annotations

import structlog


def show_plain_tracebacks() -> None:
    """Have structlog's default renderer show plain tracebacks; who has configured structlog keeps theirs."""
    if not structlog.is_configured():
        renderer = structlog.dev.ConsoleRenderer.get_active()
        renderer.exception_formatter = structlog.dev.plain_traceback
