from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable, InvalidInput, SchemaCreationFailed
from sandbox_core.manager.teardown import bounded
from sandbox_core.models import Sandbox, SandboxStatus
from sandbox_core.namespaces import PartState, SchemaProvisioner
from sandbox_core.postgres import Pool, connected, create_pool, sandboxes, transaction

from .conftest import NOW

FOREIGN = "sandbox_prod_backup"
SHORT = 0.3
"""Seconds that a test allows to ordinary statements."""


@pytest.fixture
def provisioner(pool: Pool) -> SchemaProvisioner:
    return SchemaProvisioner(pool)


def test_names() -> None:
    sandbox_id = UUID("3f2a9c01-1111-4222-8333-444455556666")
    assert SchemaProvisioner.generate_schema_name(sandbox_id) == "sandbox_3f2a9c01"
    assert SchemaProvisioner.extract_sandbox_id("sandbox_3f2a9c01") == "3f2a9c01"


@pytest.mark.parametrize("name", [FOREIGN, "public", "sandbox_", "sandbox_3F2A9C01", "sandbox_3f2a9c01x", ""])
async def test_foreign_names_are_refused(provisioner: SchemaProvisioner, name: str) -> None:
    with pytest.raises(InvalidInput):
        SchemaProvisioner.extract_sandbox_id(name)
    for act in (provisioner.create, provisioner.drop_schema, provisioner.exists, provisioner.stats):
        with pytest.raises(InvalidInput):
            await act(name)


async def test_the_life_of_a_schema(provisioner: SchemaProvisioner, pool: Pool) -> None:
    schema = "sandbox_3f2a9c01"
    assert not await provisioner.exists(schema)
    assert (await provisioner.stats(schema)).rows == {}
    await provisioner.create(schema)
    assert await provisioner.exists(schema)
    async with connected(pool) as connection:
        await connection.execute(
            f"INSERT INTO {schema}.communities (guild_id, name) VALUES ('100000000000000001', 'x')"
        )
    stats = await provisioner.stats(schema)
    assert stats.rows == {"badges": 0, "communities": 1, "profiles": 0}
    assert stats.total_rows == 1
    with pytest.raises(SchemaCreationFailed) as twice:
        await provisioner.create(schema)
    assert "already exists" in twice.value.reason
    await provisioner.drop_schema(schema)
    await provisioner.drop_schema(schema)
    assert not await provisioner.exists(schema)


async def test_dropping_at_once(provisioner: SchemaProvisioner) -> None:
    await provisioner.create("sandbox_3f2a9c01")
    await asyncio.gather(*(provisioner.drop_schema("sandbox_3f2a9c01") for _ in range(4)))
    assert await provisioner.list_schemas() == []


async def _is_slow(pool: Pool, function: str) -> bool:
    """Whether a call of `function` waits on the server for longer than the limit of other statements."""
    async with connected(pool) as connection:
        seconds = await connection.fetchval(
            """
            SELECT extract(epoch FROM clock_timestamp() - query_start)::float8 FROM pg_stat_activity
            WHERE datname = current_database() AND state = 'active'
            AND pid <> pg_backend_pid() AND position($1 IN query) > 0
            """,
            function,
        )
    return seconds is not None and seconds > 2 * SHORT


@pytest.mark.parametrize("act", ["drop_schema", "drop_orphan", "stats"])
async def test_what_takes_long_is_not_cut_off_as_other_statements_are(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    schema = "sandbox_3f2a9c01"
    monkeypatch.setattr("sandbox_core.postgres.pool.COMMAND_TIMEOUT", SHORT)
    impatient = await create_pool(database_url, max_size=2)
    function = "get_sandbox_schema_stats" if act == "stats" else "drop_sandbox_schema"
    try:
        provisioner = SchemaProvisioner(impatient)
        await SchemaProvisioner(pool).create(schema)
        async with transaction(pool) as worker:
            await worker.execute(f"LOCK TABLE {schema}.communities IN ACCESS EXCLUSIVE MODE")
            working = asyncio.ensure_future(getattr(provisioner, act)(schema))
            async with asyncio.timeout(60):
                while not await _is_slow(pool, function):
                    assert not working.done()
                    await asyncio.sleep(0.01)
        await working
        assert await provisioner.exists(schema) is (act == "stats")
    finally:
        impatient.terminate()


async def test_whoever_waits_for_a_drop_no_longer_ends_it_on_the_server(
    provisioner: SchemaProvisioner, pool: Pool, sandbox: Sandbox
) -> None:
    await provisioner.provision(sandbox)
    async with transaction(pool) as worker:
        await worker.execute(f"LOCK TABLE {sandbox.schema_name}.communities IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DependencyUnavailable) as late:
            await bounded("PostgreSQL", provisioner.drop(sandbox), within=0.2)
        assert late.value.reason == "not done within 0.2 s"
        async with asyncio.timeout(60):
            while await worker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
    # The drop did not go on once the worker had let go.
    await asyncio.wait_for(provisioner.stats(sandbox.schema_name), 60)
    assert await provisioner.exists(sandbox.schema_name)


async def test_only_exact_names_are_listed_and_cleaned(
    provisioner: SchemaProvisioner, pool: Pool, new_sandbox: Callable[..., Sandbox]
) -> None:
    owned, destroyed = new_sandbox(), new_sandbox()
    async with transaction(pool) as connection:
        for schema in (FOREIGN, "sandbox_3f2a9c01_old", "xsandbox_3f2a9c01", '"sandbox_3F2A9C01"'):
            await connection.execute(f"CREATE SCHEMA {schema}")
        await sandboxes.insert(connection, owned, limit=5)
        await sandboxes.insert(connection, destroyed, limit=5)
        await connection.execute(
            "UPDATE sandboxes SET status = 'destroyed', destroyed_at = $2 WHERE id = $1", destroyed.id, NOW
        )
    for schema in (owned.schema_name, destroyed.schema_name, "sandbox_00000000"):
        await provisioner.create(schema)

    assert await provisioner.list_ids() == {owned.short_id, destroyed.short_id, "00000000"}
    orphans = sorted([destroyed.schema_name, "sandbox_00000000"])
    assert await provisioner.orphans() == orphans
    assert await provisioner.cleanup_orphans() == orphans
    assert await provisioner.cleanup_orphans() == []
    assert await provisioner.list_schemas() == [owned.schema_name]
    async with connected(pool) as connection:
        left = await connection.fetchval(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%sandbox\\_%'"
        )
    assert left == 5


async def test_a_schema_taken_meanwhile_is_no_orphan(
    provisioner: SchemaProvisioner, pool: Pool, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed as an orphan, it gets an owner before its turn to be dropped comes."""
    await provisioner.create(sandbox.schema_name)

    async def as_listed_before() -> list[str]:
        async with transaction(pool) as connection:
            await connection.execute(
                """
                INSERT INTO sandboxes (id, name, owner, schema_name, expires_at)
                VALUES ($1, $2, 'somebody', $3, now() + interval '1 hour')
                """,
                sandbox.id,
                sandbox.name,
                sandbox.schema_name,
            )
        return [sandbox.schema_name]

    monkeypatch.setattr(provisioner, "orphans", as_listed_before)
    assert await provisioner.cleanup_orphans() == []
    assert await provisioner.exists(sandbox.schema_name)


async def test_a_role_without_the_right_to_create(provisioner: SchemaProvisioner, pool: Pool) -> None:
    async with connected(pool) as connection:
        database = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'REVOKE CREATE ON DATABASE "{database}" FROM current_user')
    with pytest.raises(SchemaCreationFailed) as refused:
        await provisioner.create("sandbox_3f2a9c01")
    assert refused.value.schema == "sandbox_3f2a9c01"
    assert refused.value.reason.startswith("permission denied for database")


async def test_interrupted_provisioning_leaves_no_schema(
    provisioner: SchemaProvisioner, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = provisioner.create

    async def made_but_never_answered(schema: str) -> None:
        await real(schema)
        raise asyncio.CancelledError

    monkeypatch.setattr(provisioner, "create", made_but_never_answered)
    with pytest.raises(asyncio.CancelledError):
        await provisioner.provision(sandbox)
    assert not await provisioner.exists(sandbox.schema_name)


async def test_the_server_dies_while_provisioning(
    servers: EmbeddedServers,
    provisioner: SchemaProvisioner,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = provisioner.create

    async def killed_first(schema: str) -> None:
        await servers.postgres.kill()
        await real(schema)

    monkeypatch.setattr(provisioner, "create", killed_first)
    with pytest.raises(DependencyUnavailable):
        await provisioner.provision(sandbox)
    await servers.postgres.start()
    assert not await provisioner.exists(sandbox.schema_name)


async def test_a_refusal_that_means_away_is_not_a_schema_error(
    provisioner: SchemaProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        asyncpg.Connection, "execute", _raising(asyncpg.DiskFullError("could not extend file")), raising=True
    )
    with pytest.raises(DependencyUnavailable) as away:
        await provisioner.create("sandbox_3f2a9c01")
    assert away.value.problem == "its disk is full"


def _raising(error: Exception) -> Callable[..., object]:
    real = asyncpg.Connection.execute

    async def execute(self: asyncpg.Connection, query: str, *args: object, **named: object) -> object:  # type: ignore[type-arg]
        if "create_sandbox_schema" in query:
            raise error
        return await real(self, query, *args, **named)  # type: ignore[arg-type]

    return execute


async def test_as_a_namespace(provisioner: SchemaProvisioner, sandbox: Sandbox) -> None:
    missing = await provisioner.check(sandbox)
    assert (missing.store, missing.state) == ("PostgreSQL", PartState.UNHEALTHY)
    assert sandbox.schema_name in missing.detail
    await provisioner.provision(sandbox)
    with pytest.raises(SchemaCreationFailed):
        await provisioner.provision(sandbox)
    healthy = await provisioner.check(sandbox)
    assert healthy.state is PartState.HEALTHY
    assert healthy.facts == {"schema": sandbox.schema_name, "tables": 3, "rows": 0}
    assert healthy.latency_ms > 0
    await provisioner.drop(sandbox)
    await provisioner.drop(sandbox)
    assert await provisioner.list_ids() == set()
    assert sandbox.status is SandboxStatus.PENDING
