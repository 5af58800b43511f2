"""A sandbox that makes more than one transaction can drop is removed all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from pydantic import SecretStr

from sandbox_bot.embedded import PostgresServer
from sandbox_bot.embedded._process import ProcessPlan
from sandbox_bot.migrate import migrate
from sandbox_core.addresses import PostgresAddress
from sandbox_core.credentials import CredentialsKey
from sandbox_core.errors import SchemaCreationFailed
from sandbox_core.models import Sandbox
from sandbox_core.namespaces import SandboxRoles, TenantSchemas
from sandbox_core.postgres import create_pool
from tests.contract.stores.conftest import new_sandbox

__all__ = ["new_sandbox"]

MANY = 1200
"""Above the server's table of locks: in one transaction, each of these fails with `out of shared memory`."""
STATEMENTS = {
    "tables": "CREATE TABLE t%1$s (i int)",
    "partitions": "CREATE TABLE p%1$s PARTITION OF parts FOR VALUES IN (%1$s)",
    "views": "CREATE VIEW v%1$s AS SELECT * FROM communities",
    "functions": "CREATE FUNCTION f%1$s() RETURNS int LANGUAGE sql AS ''SELECT 1''",
    "types": "CREATE TYPE e%1$s AS ENUM (''a'')",
    "records": "CREATE TYPE r%1$s AS (i int)",
    "sequences": "CREATE SEQUENCE s%1$s",
    "indexes": "CREATE INDEX ON communities (id) WHERE id > %1$s",
    "large objects": "SELECT lo_create(0)",
    "collations": 'CREATE COLLATION c%1$s FROM "C"',
    "constraints": "ALTER TABLE communities ADD CONSTRAINT c%1$s CHECK (id > %1$s)",
    "constraints of a domain": "ALTER DOMAIN d ADD CONSTRAINT c%1$s CHECK (VALUE > %1$s)",
    "triggers": "CREATE TRIGGER t%1$s BEFORE INSERT ON communities EXECUTE FUNCTION f()",
    "policies": "CREATE POLICY p%1$s ON communities USING (id > %1$s)",
    "rules": "CREATE RULE r%1$s AS ON INSERT TO communities DO ALSO NOTHING",
    "unique indexes": "CREATE UNIQUE INDEX u%1$s ON communities (id)",
    "aggregates": "CREATE AGGREGATE a%1$s(*) (sfunc = plus, stype = int)",
    "ranges": "CREATE TYPE range%1$s AS RANGE (subtype = float8)",
    "domains": "CREATE DOMAIN d%1$s AS int CHECK (VALUE > 0)",
    "defaults": "CREATE TABLE t%1$s (a int DEFAULT 1, b int DEFAULT 1, c int DEFAULT 1, d int DEFAULT 1)",
    "names with everything": 'CREATE TABLE ".;""--%1$s" (i int)',
}
READY = """
    CREATE TABLE parts (i int) PARTITION BY LIST (i);
    CREATE DOMAIN d AS int;
    CREATE FUNCTION plus(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
"""
KEY = CredentialsKey(SecretStr("k" * 32))


class _Small(PostgresServer):
    """With a small table of locks."""

    def _plan(self) -> ProcessPlan:
        plan = super()._plan()
        small = ("max_connections=20", "reserved_connections=3", "max_locks_per_transaction=10")
        return replace(plan, command=[*plan.command, *(word for each in small for word in ("-c", each))])


@dataclass(frozen=True)
class Place:
    """The parts under test, and a superuser."""

    roles: SandboxRoles
    schemas: TenantSchemas
    admin: asyncpg.Connection
    of: Callable[[str], TenantSchemas]
    """The part of the installation with this mark."""


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    directory = tmp_path_factory.mktemp("small")
    server = _Small(directory / "data", directory / "log", fast=True)
    await server.start()
    try:
        await migrate(server.url)
        control = await create_pool(server.url)
        tenants = await create_pool(server.tenants_url, search_path="pg_catalog")

        def of(mark: str) -> TenantSchemas:
            roles = SandboxRoles(tenants, PostgresAddress.parse(server.tenants_url), KEY, installation=mark)
            return TenantSchemas(control, tenants, installation=mark, roles=roles)

        schemas = of("here")
        assert isinstance(schemas.credentials, SandboxRoles)
        admin = await asyncpg.connect(server.admin_url.removesuffix("/postgres") + "/tenants")
        yield Place(schemas.credentials, schemas, admin, of)
        await admin.close()
        await tenants.close()
        await control.close()
    finally:
        await server.kill()


@pytest.mark.parametrize("what", STATEMENTS)
async def test_everything_is_dropped(place: Place, new_sandbox: Callable[..., Sandbox], what: str) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    sandbox = new_sandbox(generation=1, key_id=KEY.fingerprint, expires_at=soon)
    await place.schemas.provision(sandbox)
    connection = await asyncpg.connect(place.roles.variables(sandbox)["DATABASE_URL"])
    await connection.execute(READY)
    for start in range(0, MANY, 50):
        loop = f"FOR i IN {start}..{start + 49} LOOP EXECUTE format('{STATEMENTS[what]}', i); END LOOP"
        await connection.execute(f"DO $$BEGIN {loop}; END$$")
    await connection.close()
    await place.schemas.drop(sandbox)
    assert await place.schemas.list_ids() == set()
    left = "SELECT count(*) FROM pg_roles WHERE rolname = $1"
    assert await place.admin.fetchval(left, sandbox.schema_name) == 0


async def test_another_installations_is_left_alone(
    place: Place,
    new_sandbox: Callable[..., Sandbox],
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    sandbox = new_sandbox(generation=1, key_id=KEY.fingerprint, expires_at=soon)
    await place.schemas.provision(sandbox)
    connection = await asyncpg.connect(place.roles.variables(sandbox)["DATABASE_URL"])
    for number in range(60):
        await connection.execute(f"CREATE TABLE t{number} (i int)")

    other = place.of("there")
    assert await other.list_ids() == set()
    await other.drop(sandbox)
    with pytest.raises(SchemaCreationFailed):
        await other.provision(sandbox)
    assert await connection.fetchval("SELECT count(*) FROM t59") == 0
    await connection.close()
    assert await place.schemas.list_ids() == {sandbox.short_id}
    await place.schemas.drop(sandbox)


async def test_a_table_with_more_than_fits_goes_alone(
    place: Place, new_sandbox: Callable[..., Sandbox]
) -> None:
    """Fewer tables than one transaction drops, and each has many columns with a default."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    sandbox = new_sandbox(generation=1, key_id=KEY.fingerprint, expires_at=soon)
    await place.schemas.provision(sandbox)
    connection = await asyncpg.connect(place.roles.variables(sandbox)["DATABASE_URL"])
    columns = ", ".join(f"c{number} int DEFAULT 1" for number in range(200))
    for number in range(20):
        await connection.execute(f"CREATE TABLE t{number} ({columns})")
    await connection.close()
    await place.schemas.drop(sandbox)
    assert await place.schemas.list_ids() == set()


@pytest.mark.parametrize("lock", ["ACCESS SHARE", "ACCESS EXCLUSIVE"])
async def test_what_another_sandbox_has_locked_holds_no_removal_up(
    place: Place, new_sandbox: Callable[..., Sandbox], lock: str
) -> None:
    """Policies on its tables that name the role."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    removed, other, third = (
        new_sandbox(generation=1, key_id=KEY.fingerprint, expires_at=soon) for _ in range(3)
    )
    for each in (removed, other):
        await place.schemas.provision(each)
    hostile = await asyncpg.connect(place.roles.variables(other)["DATABASE_URL"])
    for number in range(MANY):
        # More than one transaction can take away.
        await hostile.execute(f"CREATE POLICY p{number} ON badges TO {removed.schema_name} USING (true)")
        await hostile.execute(f"GRANT SELECT (id) ON badges TO {removed.schema_name}")
    both = f"{removed.schema_name}, {other.schema_name}"
    for number in range(60):
        await hostile.execute(f"CREATE POLICY p{number} ON communities TO {both} USING (true)")
    await hostile.execute(f"BEGIN; LOCK TABLE communities IN {lock} MODE")
    # The lock is held until the end of the test, so both must get by without it.
    await place.schemas.drop(removed)
    await place.schemas.provision(third)
    left = "SELECT count(*) FROM pg_policy WHERE polrelid = $1::regclass"
    assert await place.admin.fetchval(left.replace("$1", f"'{other.schema_name}.badges'")) == 0
    assert await place.admin.fetchval(left.replace("$1", f"'{other.schema_name}.communities'")) == 60
    assert await place.schemas.list_ids() == {other.short_id, third.short_id}
    hostile.terminate()
    for each in (other, third):
        await place.schemas.drop(each)
