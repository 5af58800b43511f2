"""A core's manager and cleanup on real servers, with the clock and the fault points in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from redis.asyncio import Redis

from sandbox_core.cleanup import CleanupProvider, Notices
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
from sandbox_core.namespaces.amounts import Amount, Pace
from sandbox_core.namespaces.base import IsOrphan, drop_orphan
from sandbox_core.namespaces.client_traces import ClientTraces
from sandbox_core.postgres import Pool, audit, connected, create_pool, sandboxes
from sandbox_core.redis.client import create_client
from sandbox_core.subjects import (
    NO_HOLDER,
    client_session_key,
    redis_prefix,
    ring_key,
    sandbox_filter,
    sandbox_subject,
    seen_token_key,
)
from sandbox_core.templates import Template
from tests.streams import stream_of, streams_at

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GUILDS = [f"10000000000000000{number}" for number in range(4)]
LIMITS = ManagerLimits(default_ttl=timedelta(hours=24), max_ttl=timedelta(hours=168), max_per_owner=200)
LEADS = (timedelta(hours=1), timedelta(minutes=10))


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
    """Where this process would send guilds' events by now."""

    current: dict[str, Route | None] = field(default_factory=dict)

    async def settled(self, guild_ids: Collection[str]) -> None:
        """Nothing is undecided."""

    async def guilds_changed(self, routes: Mapping[str, Route | None]) -> Switch:
        self.current.update(routes)
        return Switch()


@dataclass
class Counted:
    """What cleanup reported about itself."""

    passes: list[tuple[str, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    orphan_counts: dict[str, int] = field(default_factory=dict)
    by_owner: dict[str, int] = field(default_factory=dict)

    def passed(self, result: str, seconds: float, destroyed: int) -> None:
        assert seconds >= 0
        self.passes.append((result, destroyed))

    def failed(self, error_type: str) -> None:
        self.errors.append(error_type)

    def orphans(self, counts: Mapping[str, int]) -> None:
        self.orphan_counts.update(counts)

    def population(self, by_owner: Mapping[str, int]) -> None:
        self.by_owner = dict(by_owner)


class Faults:
    """Where a test steps in: an exception is raised at the point, a function awaited."""

    def __init__(self) -> None:
        self.at: dict[str, object] = {}
        self.passed: list[str] = []

    async def __call__(self, point: str) -> None:
        self.passed.append(point)
        turn = self.at.pop(point, None)
        if isinstance(turn, BaseException):
            raise turn
        if turn is not None:
            await turn()  # type: ignore[operator]


class Watched:
    """A real namespace that counts what it drops, and fails or hangs while it is told to."""

    def __init__(self, inner: Namespace) -> None:
        self.inner = inner
        self.dropped: list[UUID] = []
        self.failing: dict[UUID, Exception] = {}
        self.hanging: dict[UUID, asyncio.Event] = {}
        self.away: Exception | None = None

    @property
    def store(self) -> str:
        return self.inner.store

    @property
    def credentials(self) -> Credentials | None:
        return self.inner.credentials

    async def provision(self, sandbox: Sandbox) -> None:
        if self.away is not None:
            raise self.away
        await self.inner.provision(sandbox)

    async def fill(self, sandbox: Sandbox, template: Template) -> None:
        await self.inner.fill(sandbox, template)

    async def renew(self, sandbox: Sandbox, template: Template | None) -> None:
        if failure := self.away or self.failing.get(sandbox.id):
            raise failure
        await self.inner.renew(sandbox, template)

    async def drop(self, sandbox: Sandbox) -> None:
        self.dropped.append(sandbox.id)
        if failure := self.away or self.failing.get(sandbox.id):
            raise failure
        if sandbox.id in self.hanging:
            await self.hanging[sandbox.id].wait()
        await self.inner.drop(sandbox)

    async def check(self, sandbox: Sandbox) -> PartHealth:
        return await self.inner.check(sandbox)

    async def measure(self, sandboxes: Sequence[Sandbox], pace: Pace) -> Mapping[UUID, Amount]:
        return await self.inner.measure(sandboxes, pace)

    async def list_ids(self) -> set[str]:
        return await self.inner.list_ids()

    async def list_whole(self) -> set[str]:
        return await self.inner.list_whole()

    def always_has(self, sandbox: Sandbox) -> str:
        return self.inner.always_has(sandbox)

    def name_of(self, listed_id: str) -> str:
        return self.inner.name_of(listed_id)

    async def drop_orphan(self, listed_id: str, is_orphan: IsOrphan) -> bool:
        if isinstance(self.inner, SchemaProvisioner):
            return await self.inner.drop_orphan(listed_id, is_orphan)
        # Through this one's `drop`, as the inner one does through its own.
        return await drop_orphan(self, listed_id, is_orphan)


@dataclass
class Yard:
    """Everything a cleanup test touches."""

    pool: Pool
    redis: Redis
    js: JetStreamContext
    clock: Clock
    routes: RecordedRoutes
    counted: Counted
    faults: Faults
    schemas: SchemaProvisioner
    keys: RedisNamespace
    parts: tuple[Watched, Watched, Watched]
    manager: SandboxManager
    cleanup: CleanupProvider
    notices: Notices

    @property
    def redis_part(self) -> Watched:
        return self.parts[1]

    @property
    def nats_part(self) -> Watched:
        return self.parts[2]

    def another_cleanup(self, **changed: object) -> CleanupProvider:
        """As another process would have it."""
        return make_cleanup(self, **changed)

    def another_manager(self, **changed: object) -> SandboxManager:
        return make_manager(self, **changed)

    async def sandbox(self, actor: Actor, name: str, **arguments: object) -> Sandbox:
        """A sandbox with something in each of its parts."""
        made = (await self.manager.create(actor, name=name, **arguments)).sandbox  # type: ignore[arg-type]
        await self.fill(made)
        return made

    async def fill(self, sandbox: Sandbox) -> None:
        async with connected(self.pool) as connection:
            await connection.execute(
                f"INSERT INTO {sandbox.schema_name}.communities (guild_id, name) VALUES ($1, 'x')", GUILDS[0]
            )
        await self.redis.set(redis_prefix(sandbox.id) + "greeting", "hello")
        # What the gateway endpoint keeps: a session, a ring, a token that its events had.
        await self.redis.set(client_session_key(sandbox.id, "1"), f"{NO_HOLDER}{{}}", ex=3600)
        await self.redis.xadd(ring_key("calls", sandbox.id), {"r": "{}"})
        await self.redis.set(seen_token_key("webhook", sandbox.short_id), f"{sandbox.id} digest -", ex=3600)
        await self.js.publish(sandbox_subject(sandbox.id, "MESSAGE_CREATE"), b"{}")
        await self.js.add_consumer(
            stream_of(sandbox.id),
            ConsumerConfig(
                durable_name=f"worker-{sandbox.short_id}",
                ack_policy=AckPolicy.EXPLICIT,
                filter_subject=sandbox_filter(sandbox.id),
            ),
        )

    async def left_of(self, sandbox: Sandbox) -> list[str]:
        """What still exists of a sandbox, by store."""
        left = []
        if await self.schemas.exists(sandbox.schema_name):
            left.append("schema")
        if str(sandbox.id) in await self.keys.list_ids():
            left.append("keys")
            assert (str(sandbox.id) in await ClientTraces(self.redis).ids()) is bool(
                await self.redis.exists(ring_key("calls", sandbox.id))
            )
        if str(sandbox.id) in await self.nats_part.list_ids():
            left.append("events")
        async with connected(self.pool) as connection:
            if await connection.fetchval(
                "SELECT count(*) FROM sandbox_guild_mapping WHERE sandbox_id = $1", sandbox.id
            ):
                left.append("mappings")
            if await connection.fetchval(
                "SELECT count(*) FROM sandbox_cleanup WHERE sandbox_id = $1", sandbox.id
            ):
                left.append("bookkeeping")
        return left

    async def row(self, sandbox: Sandbox) -> Sandbox:
        async with connected(self.pool) as connection:
            found = await sandboxes.by_id(connection, sandbox.id)
        assert found is not None
        return found

    async def audit(self, sandbox: Sandbox) -> list[AuditEntry]:
        async with connected(self.pool) as connection:
            return await audit.entries(connection, sandbox.id)


def make_manager(yard: Yard, **changed: object) -> SandboxManager:
    arguments: dict[str, object] = {
        "pool": yard.pool,
        "namespaces": yard.parts,
        "routes": yard.routes,
        "limits": LIMITS,
        "clock": yard.clock,
        "faults": yard.faults,
    }
    return SandboxManager(**(arguments | changed))  # type: ignore[arg-type]


def make_cleanup(yard: Yard, **changed: object) -> CleanupProvider:
    arguments: dict[str, object] = {
        "pool": yard.pool,
        "namespaces": yard.parts,
        "keys": [yard.keys],
        "routes": yard.routes,
        "clock": yard.clock,
        "observer": yard.counted,
        "faults": yard.faults,
    }
    return CleanupProvider(**(arguments | changed))  # type: ignore[arg-type]


@pytest.fixture
async def yard(database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Yard]:
    pool = await create_pool(database_url, max_size=12)
    redis = create_client(redis_url)
    connection = await nats.connect(nats_url, reconnect_time_wait=0.1, max_reconnect_attempts=-1)
    js = connection.jetstream(timeout=2)
    schemas, keys = SchemaProvisioner(pool), RedisNamespace(redis, traces=ClientTraces(redis))
    parts = (Watched(schemas), Watched(keys), Watched(NatsNamespace(streams_at(js))))
    clock, routes, faults = Clock(), RecordedRoutes(), Faults()
    made = Yard(
        pool=pool,
        redis=redis,
        js=js,
        clock=clock,
        routes=routes,
        counted=Counted(),
        faults=faults,
        schemas=schemas,
        keys=keys,
        parts=parts,
        manager=None,  # type: ignore[arg-type]  # both need the parts above
        cleanup=None,  # type: ignore[arg-type]
        notices=Notices(pool, leads=LEADS, clock=clock),
    )
    made.manager, made.cleanup = make_manager(made), make_cleanup(made)
    try:
        yield made
    finally:
        await connection.close()
        await redis.aclose()
        # A test that failed may have left a task with a connection, which would be waited for.
        async with asyncio.timeout(30):
            await pool.close()


@pytest.fixture
def alice() -> Actor:
    return Actor("200000000000000001", "Alice")


@pytest.fixture
def guilds() -> list[GuildAccess]:
    """Guilds whose caller has Manage Server there."""
    return [GuildAccess(guild_id, bot_is_member=True, caller_manages=True) for guild_id in GUILDS]
