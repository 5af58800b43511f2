"""Settings from the environment or `.env`; a wrong one stops the start with one line per problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from . import subjects, words
from .addresses import NatsAddress, PostgresAddress, RedisAddress
from .client_endpoint import NOBODY, OF_PRODUCTION, ClientEndpoint, is_productions, user_id_in
from .credentials import CredentialsKey
from .secret_files import SettingsError
from .setting_limits import NatsLimitSettings, StorageLimitSettings, TemplateSettings
from .setting_sources import Sources, read
from .setting_values import (
    MAX_DELIVERIES,
    TAKES,
    Hours,
    Minutes,
    PrivilegedIntents,
    ShardIds,
    Snowflakes,
    api_url,
    endpoint_url,
    long_enough,
    named,
    replicas,
    server_url,
    without_login,
)

__all__ = (
    "MAX_DELIVERIES",
    "OF_A_SANDBOX",
    "TAKES",
    "DatabaseSettings",
    "Settings",
    "SettingsError",
    "load_database_settings",
    "load_settings",
    "require_discord",
)


OF_A_SANDBOX = "the login of a sandbox"
"""What the bot's variables must not have."""


class TenantNatsSettings(NatsLimitSettings):
    """The settings for the configuration of the sandboxes' NATS server."""

    sandbox_credentials_key: Annotated[SecretStr, AfterValidator(long_enough)]


class DatabaseSettings(Sources):
    """The settings for a migration."""

    database_url: Annotated[SecretStr, server_url(PostgresAddress.parse)]
    """PostgreSQL 15 or newer. The role needs the right to create schemas, but need not be a superuser."""
    sandbox_control_schema: Annotated[str, named(subjects.is_control_schema)] = "public"
    """The PostgreSQL schema of the bot's own tables; `sandboxctl migrate` creates it if it is missing."""

    @cached_property
    def database(self) -> PostgresAddress:
        """The parsed `database_url`."""
        return PostgresAddress.parse(self.database_url.get_secret_value())

    @model_validator(mode="after")
    def _are_the_bots(self) -> Self:
        """What `connect` prints has the same names: such a login would be refused, or find no tables."""
        theirs = list(self._of_a_sandbox())
        if theirs:
            raise SettingsError([_theirs(theirs)])
        return self

    def _of_a_sandbox(self) -> Iterator[str]:
        """Yield the variables that have a sandbox's own login."""
        if subjects.is_schema_name(self.database.user or ""):
            yield "DATABASE_URL"


class Settings(DatabaseSettings, NatsLimitSettings, StorageLimitSettings, TemplateSettings):
    """Every setting; a field's environment variable is its name in upper case.

    docs/settings.md contains the docstrings of the fields.
    """

    discord_token: SecretStr | None = None
    """The bot's token, from the application's page *Bot*. Without it, `make run` shows the offline tour."""
    discord_api_url: Annotated[str | None, AfterValidator(api_url)] = None
    """The address of Discord's REST API, which also gives the gateway's. For a local Discord or a proxy."""
    discord_dev_guild_ids: Snowflakes = ()
    """The servers that get the `/sandbox` commands."""
    discord_dev_role_ids: Snowflakes = ()
    """Roles that may use the commands, in addition to members with Manage Server. Discord then shows the
    commands to everybody in the dev servers, and the bot refuses the others."""
    discord_owner_ids: Snowflakes = ()
    """The bot's owners. They have its commands in direct messages, and rights on every sandbox. Without it,
    the application's owner or team at Discord."""
    discord_protected_guild_ids: Snowflakes = ()
    """Servers that only the bot's owner may register, after a second confirmation."""
    discord_privileged_intents: PrivilegedIntents = ("message_content",)
    """The privileged intents that the bot asks for; they must be on in the developer portal. The bot always
    asks for the other intents."""
    discord_shard_count: Annotated[int, Field(ge=1)] | None = None
    """The number of shards in all processes together. Not set: Discord's recommendation, and the processes
    share them automatically."""
    discord_shard_ids: ShardIds = None
    """The shards that this process runs; DISCORD_SHARD_COUNT must be set, too. By default all of them."""

    redis_url: Annotated[SecretStr, server_url(RedisAddress.parse)]
    """Redis 7 or newer, or Valkey."""
    nats_url: Annotated[SecretStr, server_url(NatsAddress.parse)]
    """NATS 2.11.11 or newer, with JetStream."""
    sandbox_nats_url: Annotated[SecretStr | None, server_url(NatsAddress.parse)] = None
    """Another NATS server for the sandboxes' events and their workers, with JetStream. Without it: NATS_URL.
    Whatever happens to that server, production's events go on. `enforced` needs it, and with
    SANDBOX_CREDENTIALS_KEY it is a server with the configuration that `sandboxctl tenant-nats` prints."""
    nats_replicas: Annotated[int, AfterValidator(replicas)] = 1
    """Replicas of each stream: 1, or in a cluster 3 or 5."""
    sandbox_nats_replicas: Annotated[int, AfterValidator(replicas)] = 1
    """Replicas of each sandbox's streams at SANDBOX_NATS_URL: what `sandboxctl tenant-nats` was given."""
    nats_events_stream: Annotated[str, named(subjects.is_stream_name)] = subjects.EVENTS_STREAM
    """The stream of production's events. The bot does not change a stream that it did not create."""
    nats_events_prefix: Annotated[str, named(subjects.is_production_prefix)] = subjects.EVENTS_PREFIX
    """The prefix of the subjects of production's events: `events` gives `events.MESSAGE_CREATE`."""
    nats_sandbox_stream: Annotated[str, named(subjects.is_stream_name)] = subjects.SANDBOX_STREAM
    """With `convention`, what the names of sandboxes' streams begin with: `SANDBOX` gives
    `SANDBOX_3f2a9c01`, with the begin of the sandbox's id."""

    sandbox_isolation: Literal["enforced", "convention"] = "enforced"
    """How sandboxes are kept apart. `enforced`: the servers do it, each sandbox has logins of its own, and no
    new one can be made where a server for it is missing. `convention`: workers have the same login, and keep
    to their sandbox by good manners."""
    sandbox_database_url: Annotated[SecretStr | None, server_url(PostgresAddress.parse)] = None
    """The database of the sandboxes' schemas, with the bot's login there. `enforced` needs it."""
    sandbox_redis_url: Annotated[SecretStr | None, server_url(RedisAddress.parse)] = None
    """The Redis or Valkey of the sandboxes' keys, with the bot's login. `enforced` needs it."""
    sandbox_credentials_key: Annotated[SecretStr | None, AfterValidator(long_enough)] = None
    """The key that the passwords of sandboxes are made from. `enforced` needs it, the same in every process.
    After a change, `rotate` gives each sandbox new credentials."""
    sandbox_worker_database_url: Annotated[
        str | None, AfterValidator(without_login(PostgresAddress.parse))
    ] = None
    """The address of the sandboxes' database for workers, where it is another than the bot's."""
    sandbox_worker_redis_url: Annotated[str | None, AfterValidator(without_login(RedisAddress.parse))] = None
    """The address of the sandboxes' Redis for workers, where it is another than the bot's."""
    sandbox_worker_nats_url: Annotated[str | None, AfterValidator(without_login(NatsAddress.parse))] = None
    """The address of the sandboxes' NATS server for workers, where it is another than the bot's."""

    ops_host: str = "127.0.0.1"
    """The address on which `/metrics`, `/healthz` and `/readyz` listen."""
    ops_port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """The port of the same; 0 chooses a free one."""
    sandbox_gateway_host: str = "127.0.0.1"
    """The address on which `sandboxctl gateway` listens for the sandboxes' bots."""
    sandbox_gateway_port: Annotated[int, Field(ge=1, le=65535)] = 9470
    """The port of the same."""
    sandbox_gateway_url: Annotated[str | None, AfterValidator(endpoint_url)] = None
    """The address of the same as the bots reach it, without a path. Without it:
    `http://SANDBOX_GATEWAY_HOST:SANDBOX_GATEWAY_PORT`."""
    sandbox_gateway_rest_per_second: Annotated[int, Field(ge=1, le=50)] = 10
    """The most calls to Discord of all sandboxes' bots together in a second. Discord allows the bot 50, which
    production needs, too."""
    sandbox_gateway_rest_per_sandbox: Annotated[int, Field(ge=1, le=50)] = 5
    """The same of one sandbox's bots. More wait in a short line, and are then told when to come again."""
    metrics_owner_labels: Annotated[int, Field(ge=0)] = 0
    """The number of owners, those with the most sandboxes, whose Discord ids are labels of `/metrics`."""

    sandbox_default_ttl_hours: Hours = 24
    """The default life of a sandbox."""
    sandbox_max_ttl_hours: Hours = 168
    """The longest life of a sandbox, from its creation."""
    sandbox_max_guilds: Annotated[int, Field(ge=1)] = 100
    """The most servers of one sandbox at a time."""
    sandbox_max_per_owner: Annotated[int, Field(ge=1)] = 5
    """The most sandboxes of one person at a time."""
    sandbox_max_deliveries: Annotated[int, Field(ge=1, le=999_999_999)] = MAX_DELIVERIES
    """How often a worker in a sandbox gets an event that it does not handle; then the event becomes a dead
    letter. A worker in production reads this from its own environment."""
    sandbox_cleanup_interval_minutes: Annotated[float, Field(gt=0, le=10_080)] = 15
    """The pause between passes that remove leftovers of crashes. Expired sandboxes do not wait for a pass:
    they are removed within seconds."""
    sandbox_expiry_notice_minutes: Minutes = (60, 10)
    """The times before an expiry at which a sandbox's owner gets a direct message; `none` for no messages."""
    sandbox_route_cache_ttl_ms: Annotated[int, Field(ge=1000, le=3_600_000)] = 60_000
    """How long Redis keeps a route. It is read only while the table in memory is not current."""

    sandbox_shield_host: bool = True
    """For `sandbox_cogs.gateway` in your own bot: the bot's code gets no events of a server whose events go
    to a sandbox. With `false` it gets them, too."""

    events_max_age_hours: Hours = 24
    """How long the stream of production's events keeps them."""
    router_max_pending: Annotated[int, Field(ge=100)] = 10_000
    """The most events of production that may wait for their ack before the bot stops reading from the
    gateway. With about 128 MB of events it stops earlier."""
    sandbox_max_pending: Annotated[int, Field(ge=10)] = 10_000
    """The most events of one sandbox that may wait for their ack, such as while NATS is away. With more the
    sandbox loses its oldest; production's events never wait for it. One event of a server behind which none
    waits does not count."""
    sandbox_max_pending_mb: Annotated[int, Field(ge=1)] = 32
    """The same in megabytes of events."""
    sandbox_max_pending_all: Annotated[int, Field(ge=10)] = 40_000
    """The most events of all sandboxes together that may wait for their ack. With more, the sandbox with the
    most events loses its oldest."""
    sandbox_max_pending_all_mb: Annotated[int, Field(ge=1)] = 128
    """The same in megabytes of events."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level of log lines to write."""
    log_format: Literal["console", "json"] = "console"
    """`console` for people, `json` for machines."""

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.sandbox_default_ttl_hours > self.sandbox_max_ttl_hours:
            raise ValueError("SANDBOX_DEFAULT_TTL_HOURS")
        if self.sandbox_max_pending > self.sandbox_max_pending_all:
            raise ValueError("SANDBOX_MAX_PENDING_ALL")
        if self.sandbox_max_pending_mb > self.sandbox_max_pending_all_mb:
            raise ValueError("SANDBOX_MAX_PENDING_ALL_MB")
        if self.sandbox_gateway_rest_per_sandbox > self.sandbox_gateway_rest_per_second:
            raise ValueError("SANDBOX_GATEWAY_REST_PER_SANDBOX")
        if self.nats_events_stream == self.nats_sandbox_stream or self.stream_names.is_sandbox_stream(
            self.nats_events_stream
        ):
            raise ValueError("NATS_SANDBOX_STREAM")
        if self.discord_token is not None and is_productions(self.discord_token.get_secret_value()):
            raise SettingsError([OF_PRODUCTION])
        self._check_tenant_side()
        if self.discord_shard_ids is not None:
            count = self.discord_shard_count
            if count is None or not all(0 <= shard < count for shard in self.discord_shard_ids):
                raise ValueError("DISCORD_SHARD_IDS")
        return self

    def _check_tenant_side(self) -> None:
        """Raise `SettingsError` for servers that can't be the sandboxes' own.

        Without the key nothing is made there, and so nothing is wrong yet; see `hindrance.hindrance`.
        """
        if self.sandbox_credentials_key is None:
            return
        problems = []
        nats = self.sandbox_nats
        if self.sandbox_nats_url is not None and (nats.user is not None or nats.token is not None):
            problems.append(
                "SANDBOX_NATS_URL has a login, and SANDBOX_CREDENTIALS_KEY is set: the bot's logins there "
                "are made from the key, so the address takes none."
            )
        if self.enforced:
            problems += self._not_apart()
        if problems:
            raise SettingsError(problems)

    def _not_apart(self) -> Iterator[str]:
        tenants, keys, control = self.tenant_database, self.tenant_redis, self.database
        if tenants is not None and (tenants.endpoints, tenants.database) == (
            control.endpoints,
            control.database,
        ):
            yield "SANDBOX_DATABASE_URL names the database of DATABASE_URL: it must be another one."
        if keys is not None and keys.endpoint == self.redis.endpoint:
            yield "SANDBOX_REDIS_URL names the server of REDIS_URL: it must be another one."
        if self.sandbox_nats_url is not None and set(self.sandbox_nats.endpoints) & set(self.nats.endpoints):
            yield "SANDBOX_NATS_URL names the server of NATS_URL: it must be another one."

    def _of_a_sandbox(self) -> Iterator[str]:
        yield from super()._of_a_sandbox()
        for variable, user in (("REDIS_URL", self.redis.user), ("NATS_URL", self.nats.user)):
            if subjects.sandbox_of_user(user or "") is not None:
                yield variable

    @cached_property
    def tenant_database(self) -> PostgresAddress | None:
        """The parsed `sandbox_database_url`."""
        if self.sandbox_database_url is None:
            return None
        return PostgresAddress.parse(
            self.sandbox_database_url.get_secret_value(), variable="SANDBOX_DATABASE_URL"
        )

    @cached_property
    def tenant_redis(self) -> RedisAddress | None:
        """The parsed `sandbox_redis_url`."""
        if self.sandbox_redis_url is None:
            return None
        return RedisAddress.parse(self.sandbox_redis_url.get_secret_value(), variable="SANDBOX_REDIS_URL")

    @property
    def enforced(self) -> bool:
        """Whether the servers keep sandboxes apart."""
        return self.sandbox_isolation == "enforced"

    @property
    def credentials_key(self) -> CredentialsKey | None:
        """The key of sandboxes' credentials."""
        key = self.sandbox_credentials_key
        return None if key is None else CredentialsKey(key)

    @property
    def client_endpoint(self) -> ClientEndpoint | None:
        """Where the sandboxes' unmodified bots connect to; None without a key for their tokens."""
        key, token = self.credentials_key, self.discord_token
        if key is None:
            return None
        url = self.sandbox_gateway_url or f"http://{self.sandbox_gateway_host}:{self.sandbox_gateway_port}"
        return ClientEndpoint(url, NOBODY if token is None else user_id_in(token.get_secret_value()), key)

    @cached_property
    def redis(self) -> RedisAddress:
        """The parsed `redis_url`."""
        return RedisAddress.parse(self.redis_url.get_secret_value())

    @cached_property
    def nats(self) -> NatsAddress:
        """The parsed `nats_url`."""
        return NatsAddress.parse(self.nats_url.get_secret_value())

    @cached_property
    def sandbox_nats(self) -> NatsAddress:
        """The parsed `sandbox_nats_url`, or `nats_url` without it."""
        if self.sandbox_nats_url is None:
            return self.nats
        return NatsAddress.parse(self.sandbox_nats_url.get_secret_value(), variable="SANDBOX_NATS_URL")

    @cached_property
    def tenant_nats(self) -> NatsAddress | None:
        """The parsed `sandbox_nats_url`, if that server has an account for each sandbox."""
        if self.sandbox_nats_url is None or self.sandbox_credentials_key is None:
            return None
        return self.sandbox_nats

    @property
    def stream_names(self) -> subjects.StreamNames:
        """The names of the streams, and the prefix of production's subjects."""
        return subjects.StreamNames(
            self.nats_events_stream, self.nats_events_prefix, self.nats_sandbox_stream
        )

    @property
    def expiry_notices(self) -> tuple[timedelta, ...]:
        """The times before an expiry at which a sandbox's owner gets a notice; empty for never."""
        return tuple(timedelta(minutes=minutes) for minutes in self.sandbox_expiry_notice_minutes)

    @property
    def default_ttl(self) -> timedelta:
        """The default life of a sandbox."""
        return timedelta(hours=self.sandbox_default_ttl_hours)

    @property
    def max_ttl(self) -> timedelta:
        """The longest life of a sandbox, from its creation."""
        return timedelta(hours=self.sandbox_max_ttl_hours)


def _theirs(variables: Sequence[str]) -> str:
    have, them = ("has", "it") if len(variables) == 1 else ("have", "them")
    return (
        f"{words.listed(variables)} {have} {OF_A_SANDBOX}, as `sandboxctl connect` prints it, "
        f"and not the bot's. Run this in another shell, or unset {them}."
    )


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` (by field name) have priority over the environment.

    Raises `SettingsError` with one line per problem, with the variable and its valid values.
    """
    return read(Settings, overrides)


def load_database_settings(**overrides: Any) -> DatabaseSettings:
    """Read only the settings for a migration. Raises `SettingsError` as `load_settings` does."""
    return read(DatabaseSettings, overrides)


def load_tenant_nats_settings(**overrides: Any) -> TenantNatsSettings:
    """Read only what the sandboxes' NATS server needs. Raises `SettingsError` as `load_settings` does."""
    return read(TenantNatsSettings, overrides)


def require_discord(settings: Settings) -> str:
    """Return the bot's token. Raises `SettingsError` when a setting for Discord is missing."""
    problems = []
    if settings.discord_token is None:
        problems.append(f"DISCORD_TOKEN is not set: it takes {TAKES['DISCORD_TOKEN']}.")
    if not settings.discord_dev_guild_ids:
        problems.append(f"DISCORD_DEV_GUILD_IDS is not set: it takes {TAKES['DISCORD_DEV_GUILD_IDS']}.")
    if problems or settings.discord_token is None:
        raise SettingsError(problems)
    return settings.discord_token.get_secret_value()
