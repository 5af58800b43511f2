"""What a setting's value may be: the checks of values, and the sentence about each variable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from .addresses import AddressError, NatsAddress, PostgresAddress, RedisAddress
from .credentials import LEAST_KEY
from .errors import InvalidInput
from .validation import parse_guild_id


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _split_or_none(value: object) -> object:
    # An empty variable means the default, so "no values" needs a word.
    return () if isinstance(value, str) and value.strip().lower() == "none" else _split(value)


def _snowflakes(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            parse_guild_id(value)
        except InvalidInput as error:
            raise ValueError(f"`{value}` is not a Discord id") from error
    return values


def server_url(parse: Callable[[str], object]) -> AfterValidator:
    def check(value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse(value.get_secret_value())
        return value

    return AfterValidator(check)


def api_url(value: str | None) -> str | None:
    if value is None or value == "":
        return None
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname or "/api" not in url.path:
        raise ValueError("not an API address")
    _ = url.port
    return value.rstrip("/")


def endpoint_url(value: str | None) -> str | None:
    if value is None or value == "":
        return None
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname or url.path.strip("/") or url.query:
        raise ValueError("not an address without a path")
    _ = url.port
    return value.rstrip("/")


def directory(value: object) -> Path | None:
    """Take a directory that is there."""
    if value is None or value == "":
        return None
    path = Path(str(value)).expanduser()
    if not path.is_dir():
        raise ValueError("no directory")
    return path


def named(is_right: Callable[[str], bool]) -> AfterValidator:
    def check(value: str) -> str:
        if not is_right(value):
            raise ValueError("not a name that can be used")
        return value

    return AfterValidator(check)


def replicas(value: int) -> int:
    if value not in {1, 3, 5}:
        raise ValueError("JetStream needs an odd number of replicas")
    return value


def long_enough(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value()) < LEAST_KEY:
        raise ValueError("too short")
    return value


def without_login(
    parse: Callable[[str], PostgresAddress | RedisAddress | NatsAddress],
) -> Callable[[str | None], str | None]:
    def check(value: str | None) -> str | None:
        if value is None:
            return None
        address = parse(value)
        token = address.token if isinstance(address, NatsAddress) else None
        if address.user is not None or address.password is not None or token is not None:
            raise AddressError("It must name no user and no password: each sandbox has its own.")
        return value

    return check


Snowflakes = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_snowflakes)]
PrivilegedIntents = Annotated[
    tuple[Literal["members", "message_content", "presences"], ...], NoDecode, BeforeValidator(_split)
]
# A year at most: JetStream counts in nanoseconds, and dates end in the year 9999.
Hours = Annotated[float, Field(ge=1 / 60, le=8760)]
Minutes = Annotated[
    tuple[Annotated[float, Field(gt=0, le=525_600)], ...], NoDecode, BeforeValidator(_split_or_none)
]
ShardIds = Annotated[tuple[int, ...] | None, NoDecode, BeforeValidator(_split)]

MAX_DELIVERIES = 5
"""How often a worker gets an event, unless a setting says otherwise."""

TAKES: Mapping[str, str] = {
    "DISCORD_TOKEN": "the bot's token",
    "DISCORD_API_URL": "an http(s) address such as http://127.0.0.1:8080/api/v10, or nothing for Discord",
    "DISCORD_DEV_GUILD_IDS": "comma-separated server ids of 17 to 20 digits",
    "DISCORD_DEV_ROLE_IDS": "comma-separated role ids of 17 to 20 digits",
    "DISCORD_OWNER_IDS": "comma-separated user ids of 17 to 20 digits",
    "DISCORD_PROTECTED_GUILD_IDS": "comma-separated server ids of 17 to 20 digits",
    "DISCORD_PRIVILEGED_INTENTS": "any of members, message_content, presences, comma-separated",
    "DISCORD_SHARD_COUNT": "a whole number from 1, or nothing for Discord's recommendation",
    "DISCORD_SHARD_IDS": "comma-separated shard numbers below DISCORD_SHARD_COUNT, which must be set too",
    "DATABASE_URL": "postgresql://user:password@host:port/database",
    "REDIS_URL": "redis://host:port/0 (or rediss:// with TLS)",
    "NATS_URL": "nats://host:port, several separated by commas (or tls://)",
    "SANDBOX_NATS_URL": "nats://host:port, several separated by commas (or tls://), or nothing for NATS_URL",
    "NATS_REPLICAS": "an odd whole number from 1 to 5",
    "SANDBOX_NATS_REPLICAS": "an odd whole number from 1 to 5",
    "NATS_EVENTS_STREAM": "a stream's name: 1 to 64 of A-Z, a-z, 0-9, _ and -",
    "NATS_EVENTS_PREFIX": "a subject's first tokens, such as events or acme.discord: A-Z, a-z, 0-9, _ and -, "
    "joined by dots, 100 in all; the first begins with a letter or digit, and is not sandbox or sandboxes",
    "NATS_SANDBOX_STREAM": "a stream's name other than NATS_EVENTS_STREAM: 1 to 64 of A-Z, a-z, 0-9, _ and -",
    "OPS_HOST": "an address to listen on, such as 127.0.0.1",
    "OPS_PORT": "a port from 0 (any free one) to 65535",
    "SANDBOX_GATEWAY_HOST": "an address to listen on, such as 127.0.0.1",
    "SANDBOX_GATEWAY_PORT": "a port from 1 to 65535",
    "SANDBOX_GATEWAY_URL": "an http(s) address without a path, such as https://bots.example.com, or nothing",
    "SANDBOX_GATEWAY_REST_PER_SECOND": "a whole number from 1 to 50",
    "SANDBOX_GATEWAY_REST_PER_SANDBOX": "a whole number from 1 to SANDBOX_GATEWAY_REST_PER_SECOND",
    "SANDBOX_ISOLATION": "enforced or convention",
    "SANDBOX_DATABASE_URL": "postgresql://user:password@host:port/database, a database of its own",
    "SANDBOX_REDIS_URL": "redis://user:password@host:port/0, a server of its own",
    "SANDBOX_CREDENTIALS_KEY": "32 random characters or more, such as those of: openssl rand -hex 32",
    "SANDBOX_WORKER_DATABASE_URL": "postgresql://host:port/database without a login",
    "SANDBOX_WORKER_REDIS_URL": "redis://host:port/0 without a login",
    "SANDBOX_WORKER_NATS_URL": "nats://host:port without a login, several separated by commas (or tls://)",
    "SANDBOX_DATABASE_CONNECTIONS": "a whole number from 1",
    "SANDBOX_DATABASE_STATEMENT_SECONDS": "seconds, more than 0 and at most 86400",
    "SANDBOX_DATABASE_MB": "megabytes, a whole number from 1",
    "SANDBOX_DATABASE_ALL_MB": "megabytes, a whole number from 1, or nothing for no limit",
    "SANDBOX_REDIS_MB": "megabytes, a whole number from 1",
    "SANDBOX_REDIS_KEYS": "a whole number from 1",
    "SANDBOX_REDIS_ALL_MB": "megabytes, a whole number from 1, or nothing for no limit",
    "SANDBOX_RECORDINGS_MB": "megabytes, a whole number from 1",
    "SANDBOX_RECORDINGS_DAYS": "days, more than 0 and at most 3650",
    "SANDBOX_RECORDINGS_ALL_MB": "megabytes, a whole number from 1",
    "SANDBOX_STREAM_MB": "megabytes, a whole number from 16",
    "SANDBOX_STREAM_MESSAGES": "a whole number of events from 1000",
    "SANDBOX_STREAM_CONSUMERS": "a whole number from 1",
    "SANDBOX_NATS_CONNECTIONS": "a whole number from 1",
    "METRICS_OWNER_LABELS": "a whole number from 0",
    "SANDBOX_CONTROL_SCHEMA": "a schema's name: 1 to 40 of a-z, 0-9 and _, beginning with a letter or _; "
    "not PostgreSQL's own (pg_…, information_schema) and not a sandbox's (sandbox_ and 8 hex digits)",
    "SANDBOX_DEFAULT_TTL_HOURS": "hours, from 1/60 (a minute) to SANDBOX_MAX_TTL_HOURS",
    "SANDBOX_MAX_TTL_HOURS": "hours, from 1/60 (a minute) to 8760 (a year)",
    "SANDBOX_TEMPLATES_DIR": "a directory that is there, or nothing for no templates",
    "SANDBOX_TEMPLATE_SECONDS": "seconds, a whole number from 1 to 60",
    "SANDBOX_MAX_PER_OWNER": "a whole number from 1",
    "SANDBOX_MAX_GUILDS": "a whole number from 1",
    "SANDBOX_MAX_DELIVERIES": "a whole number from 1 to 999999999",
    "SANDBOX_CLEANUP_INTERVAL_MINUTES": "minutes, more than 0 and at most 10080 (a week)",
    "SANDBOX_EXPIRY_NOTICE_MINUTES": "comma-separated minutes, each more than 0 and at most 525600, or none",
    "SANDBOX_ROUTE_CACHE_TTL_MS": "milliseconds from 1000 to 3600000",
    "SANDBOX_SHIELD_HOST": "true or false",
    "EVENTS_MAX_AGE_HOURS": "hours, from 1/60 (a minute) to 8760 (a year)",
    "ROUTER_MAX_PENDING": "a whole number of events from 100",
    "SANDBOX_MAX_PENDING": "a whole number of events from 10",
    "SANDBOX_MAX_PENDING_MB": "megabytes, a whole number from 1",
    "SANDBOX_MAX_PENDING_ALL": "a whole number of events from SANDBOX_MAX_PENDING",
    "SANDBOX_MAX_PENDING_ALL_MB": "megabytes, a whole number from SANDBOX_MAX_PENDING_MB",
    "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR",
    "LOG_FORMAT": "console or json",
}
"""The valid values of each variable, for the line about a problem with it."""


def cant_be_used(variable: str, error: AddressError | None = None) -> str:
    """Return the sentence about a variable with an invalid value, and what is wrong with an address."""
    sentence = f"{variable} can't be used: it takes {TAKES[variable]}."
    return sentence if error is None else f"{sentence} {error.problem}"
