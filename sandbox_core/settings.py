"""Settings from the environment or `.env`; a wrong one stops the start with one line per problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from . import subjects
from .addresses import AddressError, NatsAddress, PostgresAddress, RedisAddress
from .errors import InvalidInput
from .secret_files import SecretFiles, SettingsError
from .validation import parse_guild_id

__all__ = (
    "TAKES",
    "DatabaseSettings",
    "Settings",
    "SettingsError",
    "cant_be_used",
    "load_database_settings",
    "load_settings",
    "require_discord",
)


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _split_or_none(value: object) -> object:
    # An empty variable means the default, so "nothing" needs a word.
    return () if isinstance(value, str) and value.strip().lower() == "none" else _split(value)


def _snowflakes(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            parse_guild_id(value)
        except InvalidInput as error:
            raise ValueError(f"`{value}` is not a Discord id") from error
    return values


def _server_url(parse: Callable[[str], object]) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        parse(value.get_secret_value())
        return value

    return AfterValidator(check)


def _api_url(value: str | None) -> str | None:
    if value is None or value == "":
        return None
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname or "/api" not in url.path:
        raise ValueError("not an API address")
    _ = url.port
    return value.rstrip("/")


def _named(is_right: Callable[[str], bool]) -> AfterValidator:
    def check(value: str) -> str:
        if not is_right(value):
            raise ValueError("not a name that can be used")
        return value

    return AfterValidator(check)


def _replicas(value: int) -> int:
    if value not in {1, 3, 5}:
        raise ValueError("JetStream needs an odd number of replicas")
    return value


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
    "NATS_REPLICAS": "an odd whole number from 1 to 5",
    "NATS_EVENTS_STREAM": "a stream's name: 1 to 64 of A-Z, a-z, 0-9, _ and -",
    "NATS_EVENTS_PREFIX": "a subject's first tokens, such as events or acme.discord: A-Z, a-z, 0-9, _ and -, "
    "joined by dots, 100 in all; the first begins with a letter or digit, and is not sandbox or sandboxes",
    "NATS_SANDBOX_STREAM": "a stream's name other than NATS_EVENTS_STREAM: 1 to 64 of A-Z, a-z, 0-9, _ and -",
    "OPS_HOST": "an address to listen on, such as 127.0.0.1",
    "OPS_PORT": "a port from 0 (any free one) to 65535",
    "METRICS_OWNER_LABELS": "a whole number from 0",
    "SANDBOX_CONTROL_SCHEMA": "a schema's name: 1 to 40 of a-z, 0-9 and _, beginning with a letter or _; "
    "not PostgreSQL's own (pg_…, information_schema) and not a sandbox's (sandbox_ and 8 hex digits)",
    "SANDBOX_DEFAULT_TTL_HOURS": "hours, from 1/60 (a minute) to SANDBOX_MAX_TTL_HOURS",
    "SANDBOX_MAX_TTL_HOURS": "hours, from 1/60 (a minute) to 8760 (a year)",
    "SANDBOX_MAX_PER_OWNER": "a whole number from 1",
    "SANDBOX_MAX_GUILDS": "a whole number from 1",
    "SANDBOX_CLEANUP_INTERVAL_MINUTES": "minutes, more than 0 and at most 10080 (a week)",
    "SANDBOX_EXPIRY_NOTICE_MINUTES": "comma-separated minutes, each more than 0 and at most 525600, or none",
    "SANDBOX_ROUTE_CACHE_TTL_MS": "milliseconds from 1000 to 3600000",
    "SANDBOX_SHIELD_HOST": "true or false",
    "EVENTS_MAX_AGE_HOURS": "hours, from 1/60 (a minute) to 8760 (a year)",
    "ROUTER_MAX_PENDING": "a whole number of events from 100",
    "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR",
    "LOG_FORMAT": "console or json",
}
"""What each variable takes, for the line that reports a problem with it."""


class DatabaseSettings(BaseSettings):
    """The settings that migrating needs."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Overrides, then the environment, then `.env`; last come the files that `_FILE` variables name."""
        files = SecretFiles(settings_cls, env_settings, dotenv_settings)
        return init_settings, env_settings, dotenv_settings, files

    database_url: Annotated[SecretStr, _server_url(PostgresAddress.parse)]
    """PostgreSQL 15 or newer. The role must be able to make schemas and need not be a superuser."""
    sandbox_control_schema: Annotated[str, _named(subjects.is_control_schema)] = "public"
    """The PostgreSQL schema of the bot's own tables; `sandboxctl migrate` makes it where it is missing."""

    @cached_property
    def database(self) -> PostgresAddress:
        """What `database_url` says."""
        return PostgresAddress.parse(self.database_url.get_secret_value())


class Settings(DatabaseSettings):
    """Every setting; a field's environment variable is its name in upper case.

    The docstrings below the fields are the text of docs/settings.md.
    """

    discord_token: SecretStr | None = None
    """The bot's token, from the application's page *Bot*. Without it, `make run` plays the offline tour."""
    discord_api_url: Annotated[str | None, AfterValidator(_api_url)] = None
    """Where Discord's REST API is; it tells the gateway's address too. For a local Discord or a proxy."""
    discord_dev_guild_ids: Snowflakes = ()
    """The servers that get the `/sandbox` commands."""
    discord_dev_role_ids: Snowflakes = ()
    """Roles that may use the commands besides who has Manage Server. Discord then shows the commands to
    everybody in the dev servers, and the bot refuses the others."""
    discord_owner_ids: Snowflakes = ()
    """Users who own the bot: its commands in direct messages, and every sandbox. Without it, whoever Discord
    says owns the application."""
    discord_protected_guild_ids: Snowflakes = ()
    """Servers that only the bot's owner may register, after a second confirmation."""
    discord_privileged_intents: PrivilegedIntents = ("message_content",)
    """Privileged intents to ask Discord for, of those turned on in the developer portal. Those that
    need no approval are always asked for."""
    discord_shard_count: Annotated[int, Field(ge=1)] | None = None
    """How many shards the bot has in all its processes. Not set: Discord's recommendation, and the processes
    share them out by themselves."""
    discord_shard_ids: ShardIds = None
    """The shards that this process runs, of a DISCORD_SHARD_COUNT that is set; without it, all of them."""

    redis_url: Annotated[SecretStr, _server_url(RedisAddress.parse)]
    """Redis 7 or newer, or Valkey."""
    nats_url: Annotated[SecretStr, _server_url(NatsAddress.parse)]
    """NATS 2.11 or newer, with JetStream."""
    nats_replicas: Annotated[int, AfterValidator(_replicas)] = 1
    """Replicas of each stream: 1, or in a cluster 3 or 5."""
    nats_events_stream: Annotated[str, _named(subjects.is_stream_name)] = subjects.EVENTS_STREAM
    """The stream of production's events. One of that name that this bot did not make is left alone."""
    nats_events_prefix: Annotated[str, _named(subjects.is_production_prefix)] = subjects.EVENTS_PREFIX
    """What the subjects of production's events begin with: `events` gives `events.MESSAGE_CREATE`."""
    nats_sandbox_stream: Annotated[str, _named(subjects.is_stream_name)] = subjects.SANDBOX_STREAM
    """The stream of the sandboxes' events, `sandbox.>`. One that this bot did not make is left alone."""

    ops_host: str = "127.0.0.1"
    """Where `/metrics`, `/healthz` and `/readyz` listen."""
    ops_port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """The port of the same; 0 takes any free one."""
    metrics_owner_labels: Annotated[int, Field(ge=0)] = 20
    """How many owners, those with the most sandboxes, have a label of their own in the metrics."""

    sandbox_default_ttl_hours: Hours = 24
    """How long a sandbox lives when nobody says otherwise."""
    sandbox_max_ttl_hours: Hours = 168
    """The longest life of a sandbox, counted from its creation."""
    sandbox_max_guilds: Annotated[int, Field(ge=1)] = 100
    """How many servers one sandbox may have at a time."""
    sandbox_max_per_owner: Annotated[int, Field(ge=1)] = 5
    """How many sandboxes one person may have at a time."""
    sandbox_cleanup_interval_minutes: Annotated[float, Field(gt=0, le=10_080)] = 15
    """How often the pass runs that finds what crashes left behind. Expired sandboxes do not wait for it: they
    go within seconds."""
    sandbox_expiry_notice_minutes: Minutes = (60, 10)
    """How long before its expiry a sandbox's owner gets a direct message; `none` for no messages."""
    sandbox_route_cache_ttl_ms: Annotated[int, Field(ge=1000, le=3_600_000)] = 60_000
    """How long Redis keeps a route. It is asked only while the table in memory is not current."""

    sandbox_shield_host: bool = True
    """For `sandbox_cogs.gateway` in a bot of your own: that bot's code gets nothing of a server whose events
    go to a sandbox. With `false` it gets everything that the sandbox gets, too."""

    events_max_age_hours: Hours = 24
    """How long the stream of production's events keeps them."""
    router_max_pending: Annotated[int, Field(ge=100)] = 10_000
    """How many events may wait for their acknowledgement before the gateway is read no further; with about
    128 MB of them it stops earlier."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important log lines to write."""
    log_format: Literal["console", "json"] = "console"
    """`console` for people, `json` for machines."""

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.sandbox_default_ttl_hours > self.sandbox_max_ttl_hours:
            raise ValueError("SANDBOX_DEFAULT_TTL_HOURS")
        if self.nats_sandbox_stream == self.nats_events_stream:
            raise ValueError("NATS_SANDBOX_STREAM")
        if self.discord_shard_ids is not None:
            count = self.discord_shard_count
            if count is None or not all(0 <= shard < count for shard in self.discord_shard_ids):
                raise ValueError("DISCORD_SHARD_IDS")
        return self

    @cached_property
    def redis(self) -> RedisAddress:
        """What `redis_url` says."""
        return RedisAddress.parse(self.redis_url.get_secret_value())

    @cached_property
    def nats(self) -> NatsAddress:
        """What `nats_url` says."""
        return NatsAddress.parse(self.nats_url.get_secret_value())

    @property
    def stream_names(self) -> subjects.StreamNames:
        """What the streams are called, and what production's subjects begin with."""
        return subjects.StreamNames(
            self.nats_events_stream, self.nats_events_prefix, self.nats_sandbox_stream
        )

    @property
    def expiry_notices(self) -> tuple[timedelta, ...]:
        """How long before its expiry a sandbox's owner is told; empty for never."""
        return tuple(timedelta(minutes=minutes) for minutes in self.sandbox_expiry_notice_minutes)

    @property
    def default_ttl(self) -> timedelta:
        """How long a sandbox lives when nobody says otherwise."""
        return timedelta(hours=self.sandbox_default_ttl_hours)

    @property
    def max_ttl(self) -> timedelta:
        """The longest life of a sandbox, counted from its creation."""
        return timedelta(hours=self.sandbox_max_ttl_hours)


_AnySettings = TypeVar("_AnySettings", bound=DatabaseSettings)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` (by field name) win over the environment.

    Raises `SettingsError` with one line per problem, naming the variable and what it takes.
    """
    return _load(Settings, overrides)


def load_database_settings(**overrides: Any) -> DatabaseSettings:
    """Read what migrating needs alone. Raises `SettingsError` as `load_settings` does."""
    return _load(DatabaseSettings, overrides)


def _load(kind: type[_AnySettings], overrides: Mapping[str, Any]) -> _AnySettings:
    try:
        return kind(**overrides)
    except ValidationError as error:
        # Built from locations and kinds only: pydantic's own text repeats the input, which may be a secret.
        raise SettingsError(_problems(error)) from None
    except UnicodeDecodeError:
        raise SettingsError([".env can't be read: it is not UTF-8 text."]) from None


def _problems(error: ValidationError) -> list[str]:
    lines: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_input=False):
        # What `_together` finds has no location: the variable's name is its message's last word.
        where = detail["loc"][0] if detail["loc"] else detail["msg"].rsplit(" ", 1)[-1]
        variable = str(where).upper()
        cause = detail.get("ctx", {}).get("error")
        if detail["type"] == "missing":
            line = f"{variable} is not set: it takes {TAKES[variable]}."
        else:
            line = cant_be_used(variable, cause if isinstance(cause, AddressError) else None)
        lines.setdefault(variable, line)
    return list(lines.values())


def cant_be_used(variable: str, error: AddressError | None = None) -> str:
    """The sentence about a variable whose value is no use, and what about an address is wrong."""
    sentence = f"{variable} can't be used: it takes {TAKES[variable]}."
    return sentence if error is None else f"{sentence} {error.problem}"


def require_discord(settings: Settings) -> str:
    """The bot's token. Raises `SettingsError` when what a connection to Discord needs is missing."""
    problems = []
    if settings.discord_token is None:
        problems.append(f"DISCORD_TOKEN is not set: it takes {TAKES['DISCORD_TOKEN']}.")
    if not settings.discord_dev_guild_ids:
        problems.append(f"DISCORD_DEV_GUILD_IDS is not set: it takes {TAKES['DISCORD_DEV_GUILD_IDS']}.")
    if problems or settings.discord_token is None:
        raise SettingsError(problems)
    return settings.discord_token.get_secret_value()
