"""A manager on real servers, with what a test may turn: the clock, the routes, and the namespaces."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import nats
import pytest
from nats.js import JetStreamContext
from redis.asyncio import Redis

from sandbox_core.manager import ManagerLimits, SandboxManager
from sandbox_core.models import Actor, AuditEntry, GuildAccess, Route, Sandbox, Switch
from sandbox_core.namespaces import (
    Credentials,
    Namespace,
    NatsNamespace,
    PartHealth,
    RedisNamespace,
    SchemaProvisioner,
)
from sandbox_core.postgres import Pool, audit, connected, create_pool, sandboxes
from sandbox_core.redis.client import create_client
from sandbox_core.subjects import redis_prefix, sandbox_subject
from sandbox_core.templates import Template
from tests.streams import streams_at

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PROTECTED = "100000000000000099"


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass
class RecordedRoutes:
    """What this process would route by now, and every change in the order told."""

    current: dict[str, Route | None] = field(default_factory=dict)
    changes: list[dict[str, Route | None]] = field(default_factory=list)
    unconfirmed: tuple[str, ...] = ()
    """What the processes' answer is to be."""

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Nothing is undecided."""

    async def guilds_changed(self, routes: Mapping[str, Route | None]) -> Switch:
        self.changes.append(dict(routes))
        self.current.update(routes)
        return Switch(unconfirmed=self.unconfirmed)

    def sandbox_of(self, guild_id: str) -> str | None:
        route = self.current.get(guild_id)
        return None if route is None else route.sandbox_id


@dataclass
class Observed:
    created_seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    failed_seconds: list[float] = field(default_factory=list)
    destroyed_seconds: list[float] = field(default_factory=list)
    resets: list[str] = field(default_factory=list)

    def created(self, seconds: float) -> None:
        self.created_seconds.append(seconds)

    def create_failed(self, reason: str, seconds: float) -> None:
        self.failures.append(reason)
        self.failed_seconds.append(seconds)

    def destroyed(self, seconds: float) -> None:
        self.destroyed_seconds.append(seconds)

    def reset(self, result: str, seconds: float) -> None:
        self.resets.append(result)


class Interposed:
    """A real namespace with a place to fail or wait, before or after the real step."""

    def __init__(self, inner: Namespace) -> None:
        self.inner = inner
        self.before_provision: list[object] = []
        self.after_provision: list[object] = []
        self.before_drop: list[object] = []
        self.dropped: list[UUID] = []

    @property
    def store(self) -> str:
        return self.inner.store

    @property
    def credentials(self) -> Credentials | None:
        return self.inner.credentials

    async def provision(self, sandbox: Sandbox) -> None:
        await self._play(self.before_provision)
        await self.inner.provision(sandbox)
        try:
            await self._play(self.after_provision)
        except Exception:
            # What raises leaves nothing behind, as each namespace promises.
            await self.inner.drop(sandbox)
            raise

    async def fill(self, sandbox: Sandbox, template: Template) -> None:
        await self.inner.fill(sandbox, template)

    async def renew(self, sandbox: Sandbox, template: Template | None) -> None:
        await self.inner.renew(sandbox, template)

    async def drop(self, sandbox: Sandbox) -> None:
        await self._play(self.before_drop)
        await self.inner.drop(sandbox)
        self.dropped.append(sandbox.id)

    async def check(self, sandbox: Sandbox) -> PartHealth:
        return await self.inner.check(sandbox)

    async def list_ids(self) -> set[str]:
        return await self.inner.list_ids()

    async def list_whole(self) -> set[str]:
        return await self.inner.list_whole()

    @staticmethod
    async def _play(script: list[object]) -> None:
        """Take one turn: an exception is raised, a function is awaited; nothing left means no turn."""
        if not script:
            return
        turn = script.pop(0)
        if isinstance(turn, BaseException):
            raise turn
        await turn()  # type: ignore[operator]


@dataclass
class World:
    """Everything a manager test touches."""

    pool: Pool
    redis: Redis
    js: JetStreamContext
    clock: Clock
    routes: RecordedRoutes
    observed: Observed
    postgres_part: Interposed
    redis_part: Interposed
    nats_part: Interposed
    manager: SandboxManager
    limits: ManagerLimits

    @property
    def provisioner(self) -> SchemaProvisioner:
        inner = self.postgres_part.inner
        assert isinstance(inner, SchemaProvisioner)
        return inner

    def with_limits(self, limits: ManagerLimits) -> SandboxManager:
        return self._manager(limits=limits)

    def with_ids(self, ids: Sequence[UUID]) -> SandboxManager:
        """A manager that takes these ids first."""
        supply = itertools.chain(ids, iter(uuid4, None))
        return self._manager(new_id=lambda: next(supply))

    def _manager(self, **changed: object) -> SandboxManager:
        arguments: dict[str, object] = {
            "pool": self.pool,
            "namespaces": (self.postgres_part, self.redis_part, self.nats_part),
            "routes": self.routes,
            "limits": self.limits,
            "clock": self.clock,
            "observer": self.observed,
        }
        return SandboxManager(**(arguments | changed))  # type: ignore[arg-type]

    async def audit(self, sandbox_id: UUID) -> list[AuditEntry]:
        async with connected(self.pool) as connection:
            return await audit.entries(connection, sandbox_id)

    async def row(self, sandbox_id: UUID) -> Sandbox | None:
        async with connected(self.pool) as connection:
            return await sandboxes.by_id(connection, sandbox_id)

    async def rows(self) -> list[Sandbox]:
        return await self.manager.list(include_destroyed=True)

    async def fill(self, sandbox: Sandbox) -> None:
        """Put something into each of the sandbox's parts."""
        async with connected(self.pool) as connection:
            await connection.execute(
                f"INSERT INTO {sandbox.schema_name}.communities (guild_id, name) VALUES ($1, 'x')",
                "100000000000000001",
            )
        await self.redis.set(redis_prefix(sandbox.id) + "greeting", "hello")
        await self.js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"{}")

    async def left_of(self, sandbox: Sandbox) -> list[str]:
        """What still exists of a sandbox, by store."""
        left = []
        if await self.provisioner.exists(sandbox.schema_name):
            left.append("schema")
        if str(sandbox.id) in await self.redis_part.list_ids():
            left.append("keys")
        if str(sandbox.id) in await self.nats_part.list_ids():
            left.append("events")
        return left


@pytest.fixture
async def world(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[World]:
    pool = await create_pool(database_url, max_size=8)
    redis = create_client(redis_url)
    connection = await nats.connect(nats_url)
    js = connection.jetstream(timeout=2)
    limits = ManagerLimits(
        default_ttl=timedelta(hours=24),
        max_ttl=timedelta(hours=168),
        max_per_owner=5,
        protected_guild_ids=frozenset({PROTECTED}),
    )
    made = World(
        pool=pool,
        redis=redis,
        js=js,
        clock=Clock(),
        routes=RecordedRoutes(),
        observed=Observed(),
        postgres_part=Interposed(SchemaProvisioner(pool)),
        redis_part=Interposed(RedisNamespace(redis)),
        nats_part=Interposed(NatsNamespace(streams_at(js))),
        manager=None,  # type: ignore[arg-type]  # needs the parts above
        limits=limits,
    )
    made.manager = made.with_limits(limits)
    try:
        yield made
    finally:
        for stream in await streams_at(js).names():
            await js.delete_stream(stream)
        await connection.close()
        await redis.aclose()
        await pool.close()


@pytest.fixture
def alice() -> Actor:
    return Actor("200000000000000001", "Alice")


@pytest.fixture
def bob() -> Actor:
    return Actor("200000000000000002", "Bob")


@pytest.fixture
def bot_owner() -> Actor:
    return Actor("200000000000000009", "Olga", is_bot_owner=True)


@pytest.fixture
def managed() -> GuildAccess:
    """A guild whose caller has Manage Server there."""
    return GuildAccess("100000000000000001", bot_is_member=True, caller_manages=True, name="One")
