"""Logging: structlog everywhere, and the libraries' own log lines through the same renderer."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

import structlog

from sandbox_core.settings import Settings

_NOISY = (
    "discord.http",
    "discord.gateway",
    "discord.client",
    "discord.shard",
    # At debug these print addresses that hold interactions' tokens, with which anybody may answer.
    "discord.webhook.async_",
    "discord.webhook.sync",
    "nats.aio.client",
    "aiohttp.access",
)


_SHORTEST = 6
"""Shorter passwords are left alone outside their address: they would be found, and given away, in words."""
_PASSWORD_PARAMETERS = frozenset({"password", "sslpassword", "ssl_password"})
"""Of libpq's addresses, which asyncpg reads, and of redis-py's."""


class Redaction:
    """Keeps secrets out of whatever is written, also where a library's message repeats one.

    Nothing here logs a secret on purpose; this stands behind the care that is taken everywhere else.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # As JSON shows them, too; the longest first, for some hold others.
        forms = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1])}
        ordered = sorted(forms, key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, _logger: object, _method: str, line: str) -> str:
        """The line with every secret replaced."""
        return line if self._secret is None else self._secret.sub("[secret]", line)


def secrets_of(settings: Settings) -> Iterator[str]:
    """The token, the servers' addresses that hold secrets, and these secrets."""
    if settings.discord_token is not None:
        yield settings.discord_token.get_secret_value()
    yield from _secrets_in(settings.database_url.get_secret_value())
    yield from _secrets_in(settings.redis_url.get_secret_value())
    for server in settings.nats_url.get_secret_value().split(","):
        yield from _secrets_in(server.strip(), name_is_token=True)


def _secrets_in(address: str, *, name_is_token: bool = False) -> Iterator[str]:
    """`name_is_token`: a user name without a password is a secret too, as in NATS addresses."""
    parts = urlsplit(address)
    written = [*_query_passwords(parts)]
    if parts.password:
        written.append(parts.password)
    elif name_is_token and parts.username:
        written.append(parts.username)
    if written:
        yield address
    for secret in written:
        yield from (
            form for form in {secret, unquote(secret), unquote_plus(secret)} if len(form) >= _SHORTEST
        )


def _query_passwords(parts: SplitResult) -> Iterator[str]:
    for parameter in parts.query.split("&"):
        name, _, value = parameter.partition("=")
        if value and name.lower() in _PASSWORD_PARAMETERS:
            yield value


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
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
                # Behind the renderer: it sees the line as it is written.
                Redaction(secrets_of(settings)),  # type: ignore[list-item]
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _NOISY:
        # At debug these print whole payloads; what matters of them this project logs itself.
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
