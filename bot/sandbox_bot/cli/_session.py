"""The core, opened for one command."""

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
    """The core for one command. Raises `SettingsError`; servers may be away until they are used."""
    settings = load_settings()
    keep_quiet(settings)
    async with open_core(settings, follow_routes=False, use_nats=use_nats) as core:
        yield core


def keep_quiet(settings: Settings) -> None:
    """Show log lines only to those who set `LOG_LEVEL=DEBUG`: a command says what went wrong itself."""
    if settings.log_level == "DEBUG":
        configure_logging(settings)
        return
    silence()


def silence() -> None:
    """Show no log line at all."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Without any handler the library's last resort would write warnings to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
