"""Opens the core for one command."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.settings import Settings, load_settings

from ..logs import configure_logging


@asynccontextmanager
async def opened(use_nats: NatsUse = NatsUse.NOTHING) -> AsyncIterator[Core]:
    """Open the core for one command. Raises `SettingsError`. A server that is not used may be away."""
    settings = load_settings()
    keep_quiet(settings)
    async with open_core(settings, follow_routes=False, use_nats=use_nats) as core:
        yield core


def keep_quiet(settings: Settings) -> None:
    """Show log lines only with `LOG_LEVEL=DEBUG`: a command prints its own errors."""
    if settings.log_level == "DEBUG":
        configure_logging(settings)
        return
    silence()


def silence() -> None:
    """Show no log lines."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Without a handler the library would write warnings to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
