"""Servers as `run --embedded` starts them, and two sandboxes with what `connect` shows of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers, embedded_servers
from sandbox_bot.migrate import migrate
from sandbox_bot.tour.stage import default_settings
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.isolation.attacks import Attack, CameBack, Verdict, judge
from sandbox_core.manager import Colleague
from sandbox_core.models import Actor, Sandbox, ShareAccess
from sandbox_core.settings import Settings
from sandbox_core.subjects import redis_prefix
from tests.conftest import revive

from .gateway import publishing

ALICE, BOB = Actor("200000000000000001", "Alice"), Actor("200000000000000002", "Bob")
GUILD = "100000000000000001"


@dataclass(frozen=True)
class Held:
    """A sandbox, and what its owner was shown."""

    sandbox: Sandbox
    variables: Mapping[str, str]

    @property
    def schema(self) -> str:
        return self.sandbox.schema_name

    @property
    def prefix(self) -> str:
        return redis_prefix(self.sandbox.id)

    @property
    def user(self) -> str:
        return self.variables["REDIS_URL"].split("//")[1].split(":")[0]

    async def postgres(self) -> asyncpg.Connection:
        """A plain client of PostgreSQL."""
        return await asyncpg.connect(self.variables["DATABASE_URL"], timeout=10)

    def redis(self) -> Redis:
        """A plain client of Redis."""
        return Redis.from_url(self.variables["REDIS_URL"], decode_responses=True)


@pytest.fixture(scope="session")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServers]:
    """Servers as `run --embedded` starts them, migrated."""
    async with embedded_servers(tmp_path_factory.mktemp("closed"), fast=True) as servers:
        await migrate(servers.database_url)
        yield servers


@pytest.fixture(scope="session")
def enforced(closed: EmbeddedServers) -> Settings:
    return settings_of(closed)


LOGINS = {"DATABASE_URL", "REDIS_URL", "NATS_URL"}
"""The variables with a sandbox's own logins, which one by convention does not have."""


def settings_of(servers: EmbeddedServers, **others: object) -> Settings:
    """The settings of a bot on these servers."""
    chosen: dict[str, object] = {
        "database_url": servers.database_url,
        "redis_url": servers.redis_url,
        "nats_url": servers.nats_url,
        "sandbox_isolation": "enforced",
        **servers.tenant_settings,
    }
    return default_settings(**(chosen | others))


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Core]:
    """The core of the command line."""
    async with open_core(settings, follow_routes=False, use_nats=NatsUse.SANDBOXES) as core:
        yield core


@asynccontextmanager
async def trial_core(settings: Settings) -> AsyncIterator[Core]:
    """The core of `doctor --isolation`."""
    async with open_core(settings, follow_routes=False, use_nats=NatsUse.TRIAL) as core:
        yield core


@pytest.fixture
async def core(closed: EmbeddedServers, enforced: Settings) -> AsyncIterator[Core]:
    for server in (closed.postgres, closed.valkey, closed.tenant_valkey, closed.nats, closed.tenant_nats):
        await revive(server)
    async with opened(enforced) as made:
        await made.cleanup.keep_credentials()
        yield made
        for sandbox in await made.manager.list():
            await made.manager.destroy(Actor("test", is_bot_owner=True), sandbox.name)


@pytest.fixture
async def bot(closed: EmbeddedServers, enforced: Settings) -> AsyncIterator[Core]:
    """The core of a bot that publishes, and answers who may log in to NATS."""
    for server in (closed.postgres, closed.valkey, closed.tenant_valkey, closed.nats, closed.tenant_nats):
        await revive(server)
    async with publishing(enforced) as core:
        yield core
        for sandbox in await core.manager.list():
            await core.manager.destroy(Actor("test", is_bot_owner=True), sandbox.name)


async def hold(core: Core, name: str, owner: Actor = ALICE) -> Held:
    """Create a sandbox, and take what `connect` shows."""
    made = await core.manager.create(owner, name=name)
    return held(core, made.sandbox)


async def hold_as_guest(core: Core, held: Held) -> Held:
    """What `connect` shows a colleague with whom that sandbox is shared."""
    carol = Actor("200000000000000003", "Carol")
    made = await core.manager.share(ALICE, held.sandbox.name, Colleague(carol.id), ShareAccess.USE)
    return Held(made.sandbox, core.manager.credentials_for(carol, made.sandbox))


def held(core: Core, sandbox: Sandbox) -> Held:
    """What `connect` shows now."""
    return Held(sandbox, core.manager.credentials(sandbox))


@pytest.fixture
async def mine(core: Core) -> Held:
    """The attacker's sandbox."""
    return await hold(core, "mine")


@pytest.fixture
async def other(core: Core) -> Held:
    """The neighbour, with something in it."""
    made = await hold(core, "other", BOB)
    connection = await made.postgres()
    await connection.execute("INSERT INTO communities (guild_id, name) VALUES ($1, 'treasure')", GUILD)
    await connection.execute("CREATE FUNCTION secret() RETURNS text LANGUAGE sql AS $$SELECT 'treasure'$$")
    await connection.close()
    async with made.redis() as redis:
        await redis.set(f"{made.prefix}text", "treasure")
        await redis.rpush(f"{made.prefix}list", "treasure")
        await redis.hset(f"{made.prefix}hash", "field", "treasure")
    return made


@pytest.fixture
async def admin(closed: EmbeddedServers) -> AsyncIterator[asyncpg.Connection]:
    """A superuser in the tenants' database, to look at things."""
    url = closed.postgres.admin_url.removesuffix("/postgres") + "/tenants"
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


def expect(attack: Attack, came: CameBack) -> None:
    """Assert that exactly what the row says came back."""
    row = judge("", attack, came)
    assert row.verdict is (Verdict.POSSIBLE if attack.possible else Verdict.DENIED), came
    # For a proof a refusal is as good as an empty answer; a row says which of the two it is.
    assert bool(came.refusals) == bool(attack.denied), came
