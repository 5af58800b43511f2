"""Configures logging: structlog, and the libraries' log lines through the same renderer."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO
from urllib.parse import quote, quote_plus

import structlog

from sandbox_core.misspelt import misspelt_settings
from sandbox_core.settings import Settings

_NOISY = (
    "discord.http",
    "discord.gateway",
    "discord.client",
    "discord.shard",
    # At level debug this prints URLs with tokens of interactions, which let anybody answer them.
    "discord.webhook.async_",
    "discord.webhook.sync",
    "nats.aio.client",
    "aiohttp.access",
)
_SHORTEST = 6
_LONGEST_WORD = 16
_WORD = re.compile(r"[^\W\d_]+\Z")


class Redaction:
    """Removes secrets from every log line, also from messages of libraries.

    No code of this project logs a secret on purpose; this is a second protection.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # Also as JSON writes them. The longest first, because some contain others.
        forms = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1])}
        ordered = sorted(forms, key=len, reverse=True)
        self._secret = re.compile("|".join(map(_alone, ordered))) if ordered else None

    def __call__(self, _logger: object, _method: str, line: str) -> str:
        """Return the line with every secret replaced."""
        return line if self._secret is None else self._secret.sub("[secret]", line)


def _alone(secret: str) -> str:
    """Return a pattern that finds the secret, but not a longer word that contains it."""
    before = r"(?<!\w)" if re.match(r"\w", secret) else ""
    behind = r"(?!\w)" if re.search(r"\w\Z", secret) else ""
    return f"{before}{re.escape(secret)}{behind}"


def secrets_of(settings: Settings) -> Iterator[str]:
    """Yield the token, the server addresses that contain secrets, and these secrets.

    A password that may be an ordinary word is replaced only inside its address. Replaced everywhere, it would
    make other lines unreadable, and the gaps would give it away.
    """
    if settings.discord_token is not None:
        yield settings.discord_token.get_secret_value()
    yield from _secrets_in(settings.database.secrets(), [settings.database_url.get_secret_value()])
    yield from _secrets_in(settings.redis.secrets(), [settings.redis_url.get_secret_value()])
    yield from _secrets_in(settings.nats.secrets(), settings.nats_url.get_secret_value().split(","))
    if settings.sandbox_nats_url is not None:
        addresses = settings.sandbox_nats_url.get_secret_value().split(",")
        yield from _secrets_in(settings.sandbox_nats.secrets(), addresses)
    if settings.sandbox_credentials_key is not None:
        yield settings.sandbox_credentials_key.get_secret_value()
    for address, given in (
        (settings.tenant_database, settings.sandbox_database_url),
        (settings.tenant_redis, settings.sandbox_redis_url),
    ):
        if address is not None and given is not None:
            yield from _secrets_in(address.secrets(), [given.get_secret_value()])


def _secrets_in(secrets: Iterable[str], addresses: Iterable[str]) -> Iterator[str]:
    found = set(secrets)
    if found:
        # An address without a password or parameters contains no secret.
        yield from (address.strip() for address in addresses if "@" in address or "?" in address)
    for secret in found:
        for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
            yield f":{form}@" if _may_be_a_word(secret) else form


def _may_be_a_word(secret: str) -> bool:
    if len(secret) < _SHORTEST:
        return True
    return len(secret) <= _LONGEST_WORD and _WORD.match(secret) is not None


def log_misspelt_settings() -> None:
    """Log one line for each variable that looks like a misspelt setting."""
    log = structlog.get_logger("sandbox.settings")
    for each in misspelt_settings():
        log.warning("setting_misspelt", variable=each.name, place=each.place, nearest=each.nearest)


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Write log lines to `stream` (by default standard error) in the configured format and level."""
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
        # structlog's default shows every local variable of a traceback, and some contain the token.
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
                # After the renderer: it gets the final line.
                Redaction(secrets_of(settings)),  # type: ignore[list-item]
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _NOISY:
        # At level debug these print whole payloads. This project itself logs what matters.
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
