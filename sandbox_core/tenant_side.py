"""Chooses where sandboxes' parts of the three servers are, and who keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from redis.asyncio import Redis

from .addresses import NatsAddress, PostgresAddress, RedisAddress
from .clients import NatsSides, at_end, open_tenant_clients
from .dependencies import ask_postgres, ask_redis
from .health import ServerCheck
from .namespaces import (
    Namespace,
    NatsNamespace,
    RedisNamespace,
    RoleLimits,
    SandboxRoles,
    SandboxUsers,
    SchemaProvisioner,
    Sides,
    TenantSchemas,
)
from .namespaces.client_traces import ClientTraces
from .namespaces.nats_letters import SandboxDeadLetters
from .namespaces.nats_writing import SandboxWriting
from .nats.tenant.configuration import TenantLimits
from .postgres import Pool
from .settings import Settings
from .shutdown import ShutdownBudget
from .stored import StorageLimit
from .tenant_nats import TenantNats, open_tenant_nats

TENANT_NATS = "NATS of sandboxes"
TENANT_POSTGRES, TENANT_REDIS = "PostgreSQL of sandboxes", "Redis of sandboxes"


@dataclass(frozen=True, slots=True)
class TenantSide:
    """The sandboxes' parts of the three servers."""

    schemas: Namespace
    redis_part: Namespace
    traces: ClientTraces
    """What the gateway endpoint keeps of sandboxes."""
    every_keys: Sequence[RedisNamespace]
    """The same as `redis_part`, each server for itself."""
    nats_part: Namespace
    dead_letters: SandboxDeadLetters
    writing: SandboxWriting
    database: ServerCheck | None
    """The server of the sandboxes' database, if it is not the bot's own database."""
    keys: ServerCheck | None
    nats: TenantNats | None
    """The server with an account for each sandbox, if the settings name one."""

    @property
    def checks(self) -> list[ServerCheck]:
        """The servers that only sandboxes need."""
        return [each for each in (self.database, self.keys) if each is not None]


async def open_tenant_side(
    settings: Settings,
    stack: AsyncExitStack,
    closing: ShutdownBudget,
    *,
    pool: Pool,
    redis: Redis,
    sides: NatsSides,
    tenant: TenantNats | None,
) -> TenantSide:
    """Create the clients of the sandboxes' servers, without a request.

    `pool` and `redis` are the bot's; `tenant` is what `connect_tenant_nats` has returned.
    """
    tenants, tenant_redis = await open_tenant_clients(settings, stack, closing)
    traces = ClientTraces(redis)
    keys, every_keys = _keys(settings, redis, tenant_redis, traces)
    database, server = None, None
    if tenants is not None and settings.tenant_database is not None:
        question = partial(ask_postgres, tenants)
        database = ServerCheck(TENANT_POSTGRES, question, where=settings.tenant_database.where)
    if tenant_redis is not None and settings.tenant_redis is not None:
        server = ServerCheck(
            TENANT_REDIS, partial(ask_redis, tenant_redis), where=settings.tenant_redis.where
        )
    slots = None if tenant is None else tenant.streams
    return TenantSide(
        _schemas(settings, pool, tenants),
        keys,
        traces,
        every_keys,
        _nats(settings, sides, tenant),
        SandboxDeadLetters(pool, slots, sides.streams),
        SandboxWriting(pool, slots, sides.streams),
        database,
        server,
        tenant,
    )


async def connect_tenant_nats(
    settings: Settings,
    stack: AsyncExitStack,
    closing: ShutdownBudget,
    pool: Pool,
    *,
    answers: bool,
    connects: bool,
) -> TenantNats | None:
    """Connect to the server with an account for each sandbox; None without one. It may be away.

    `answers` is for a process that lets sandboxes' workers in. Without `connects` nothing can be asked of it.
    """
    address, key = settings.tenant_nats, settings.credentials_key
    if address is None or key is None:
        return None
    shown = settings.sandbox_worker_nats_url
    opened = open_tenant_nats(
        pool,
        address,
        key,
        longest_life=settings.max_ttl,
        limits=TenantLimits.of(settings, replicas=settings.sandbox_nats_replicas),
        worker_address=None if shown is None else NatsAddress.parse(shown),
        answers=answers,
        connects=connects,
    )
    made = await opened.__aenter__()
    at_end(stack, closing, TENANT_NATS, partial(opened.__aexit__, None, None, None))
    return made


def _nats(settings: Settings, sides: NatsSides, tenant: TenantNats | None) -> Namespace:
    """Return the namespace of the sandboxes' events."""
    here = NatsNamespace(sides.streams)
    variable, enforced = "SANDBOX_NATS_URL and SANDBOX_CREDENTIALS_KEY", settings.enforced
    if tenant is None:
        return Sides(here, settings=variable, enforced=enforced)
    # Other than the other servers, this one has no place for sandboxes without a login.
    both: tuple[Namespace, Namespace] = (tenant.namespace, here)
    new, old = both if enforced else both[::-1]
    return Sides(new, old, settings=variable, enforced=enforced)


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
        roles = SandboxRoles(tenants, seen, key, installation=mark, limits=_limits(settings), reached=address)
    there = TenantSchemas(control, tenants, installation=mark, roles=roles)
    return Sides(there, here, settings=variable, enforced=enforced)


def _keys(
    settings: Settings, control: Redis, tenants: Redis | None, traces: ClientTraces
) -> tuple[Namespace, list[RedisNamespace]]:
    """Return the namespace of the sandboxes' keys, and its sides."""
    here = RedisNamespace(control, traces=traces)
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


def storage_limits(settings: Settings) -> dict[str, StorageLimit]:
    """Return what one sandbox may store, by the stores that can't limit it themselves."""
    return {SchemaProvisioner.store: settings.database_limit, RedisNamespace.store: settings.redis_limit}
