"""Logging: structlog everywhere, and the libraries' own log lines through the same renderer."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from sandbox_core.settings import Settings

_NOISY = (
    "discord.http",
    "discord.gateway",
    "discord.client",
    "discord.shard",
    "nats.aio.client",
    "aiohttp.access",
)


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Write log lines to `stream` (standard error by default) in the configured form and level."""
    target = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: structlog.typing.Processor
    if settings.log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        # structlog's default shows every local variable of a traceback, and some hold the token.
        renderer = structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _NOISY:
        # At debug these print whole payloads; what matters of them this project logs itself.
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
