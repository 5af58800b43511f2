"""Chooses where sandboxes' parts of PostgreSQL and Redis are, and who keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from redis.asyncio import Redis

from .addresses import PostgresAddress, RedisAddress
from .clients import open_tenant_clients
from .dependencies import ask_postgres, ask_redis
from .health import ServerCheck
from .namespaces import (
    Namespace,
    RedisNamespace,
    RoleLimits,
    SandboxRoles,
    SandboxUsers,
    SchemaProvisioner,
    Sides,
    TenantSchemas,
)
from .postgres import Pool
from .settings import Settings
from .shutdown import ShutdownBudget

TENANT_POSTGRES, TENANT_REDIS = "PostgreSQL of sandboxes", "Redis of sandboxes"


@dataclass(frozen=True, slots=True)
class TenantSide:
    """The sandboxes' parts of PostgreSQL and Redis."""

    schemas: Namespace
    redis_part: Namespace
    every_keys: Sequence[RedisNamespace]
    """The same as `redis_part`, each server for itself."""
    database: ServerCheck | None
    """The server of the sandboxes' database, if it is not the bot's own database."""
    keys: ServerCheck | None

    @property
    def checks(self) -> list[ServerCheck]:
        """The servers that only sandboxes need."""
        return [each for each in (self.database, self.keys) if each is not None]


async def open_tenant_side(
    settings: Settings, stack: AsyncExitStack, closing: ShutdownBudget, *, pool: Pool, redis: Redis
) -> TenantSide:
    """Create the clients of the sandboxes' servers, without a request; `pool` and `redis` are the bot's."""
    tenants, tenant_redis = await open_tenant_clients(settings, stack, closing)
    keys, every_keys = _keys(settings, redis, tenant_redis)
    database, server = None, None
    if tenants is not None and settings.tenant_database is not None:
        question = partial(ask_postgres, tenants)
        database = ServerCheck(TENANT_POSTGRES, question, where=settings.tenant_database.where)
    if tenant_redis is not None and settings.tenant_redis is not None:
        server = ServerCheck(
            TENANT_REDIS, partial(ask_redis, tenant_redis), where=settings.tenant_redis.where
        )
    return TenantSide(_schemas(settings, pool, tenants), keys, every_keys, database, server)


def _schemas(settings: Settings, control: Pool, tenants: Pool | None) -> Namespace:
    """Return the namespace of the sandboxes' schemas; `tenants` is the pool of the sandboxes' database."""
    here = SchemaProvisioner(control)
    variable, enforced = "SANDBOX_DATABASE_URL and SANDBOX_CREDENTIALS_KEY", settings.enforced
    address, key = settings.tenant_database, settings.credentials_key
    if tenants is None or address is None:
        return Sides(here, settings=variable, enforced=enforced)
    mark = installation(settings)
    roles = None
    if key is not None:
        shown = settings.sandbox_worker_database_url
        seen = address if shown is None else PostgresAddress.parse(shown)
        roles = SandboxRoles(tenants, seen, key, installation=mark, limits=_limits(settings))
    there = TenantSchemas(control, tenants, installation=mark, roles=roles)
    return Sides(there, here, settings=variable, enforced=enforced)


def _keys(
    settings: Settings, control: Redis, tenants: Redis | None
) -> tuple[Namespace, list[RedisNamespace]]:
    """Return the namespace of the sandboxes' keys, and its sides."""
    here = RedisNamespace(control)
    variable, enforced = "SANDBOX_REDIS_URL and SANDBOX_CREDENTIALS_KEY", settings.enforced
    address, key = settings.tenant_redis, settings.credentials_key
    if tenants is None or address is None:
        return Sides(here, settings=variable, enforced=enforced), [here]
    users = None
    if key is not None:
        shown = settings.sandbox_worker_redis_url
        seen = address if shown is None else RedisAddress.parse(shown)
        users = SandboxUsers(tenants, seen, key, where=address.where)
    there = RedisNamespace(tenants, users)
    return Sides(there, here, settings=variable, enforced=enforced), [there, here]


def installation(settings: Settings) -> str:
    """Return the comment on what this installation makes: several may share the sandboxes' database."""
    database = settings.database
    name = database.database or database.who
    return f"discord-server-sandboxes, control database {name}, schema {settings.sandbox_control_schema}"


def _limits(settings: Settings) -> RoleLimits:
    return RoleLimits(
        settings.sandbox_database_connections, timedelta(seconds=settings.sandbox_database_statement_seconds)
    )
