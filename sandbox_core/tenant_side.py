"""Chooses where sandboxes' parts of PostgreSQL and Redis are, and who keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from .addresses import PostgresAddress, RedisAddress
from .clients import open_tenant_clients
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


@dataclass(frozen=True, slots=True)
class TenantSide:
    """The sandboxes' parts of PostgreSQL and Redis."""

    schemas: Namespace
    keys: Namespace
    every_keys: Sequence[RedisNamespace]
    """The same as `keys`, each server for itself."""
    pool: Pool | None
    """The sandboxes' database, if it is not the bot's own."""
    redis: Redis | None


async def open_tenant_side(
    settings: Settings, stack: AsyncExitStack, closing: ShutdownBudget, *, pool: Pool, redis: Redis
) -> TenantSide:
    """Create the clients of the sandboxes' servers, without a request; `pool` and `redis` are the bot's."""
    tenants, tenant_redis = await open_tenant_clients(settings, stack, closing)
    keys, every_keys = _keys(settings, redis, tenant_redis)
    return TenantSide(_schemas(settings, pool, tenants), keys, every_keys, tenants, tenant_redis)


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
