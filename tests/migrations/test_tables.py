"""What the tables accept and refuse, and the names that other code relies on."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

GUILD = "110373943822540800"


async def add_sandbox(connection: asyncpg.Connection, **changes: Any) -> UUID:
    row = {
        "id": uuid4(),
        "name": f"sandbox-{uuid4().hex[:6]}",
        "owner": "80351110224678912",
        "status": "running",
        "schema_name": f"sandbox_{uuid4().hex[:8]}",
        **changes,
    }
    columns = ", ".join(row)
    values = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(
        f"INSERT INTO sandboxes ({columns}, expires_at) VALUES ({values}, now() + interval '1 day')",
        *row.values(),
    )
    return row["id"]


async def map_guild(connection: asyncpg.Connection, guild: str, sandbox: UUID) -> None:
    await connection.execute(
        "INSERT INTO sandbox_guild_mapping (guild_id, sandbox_id, registered_by) VALUES ($1, $2, 'alice')",
        guild,
        sandbox,
    )


async def test_the_role_is_no_superuser_and_owns_its_database(connection: asyncpg.Connection) -> None:
    row = await connection.fetchrow(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, datdba = r.oid AS owns "
        "FROM pg_roles r, pg_database d WHERE rolname = current_user AND datname = current_database()"
    )
    assert row is not None
    assert tuple(row) == (False, True, False, True)


async def test_indexes(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname ~ '^(idx|uq)_'"
    )
    definitions = {row["indexname"]: row["indexdef"].split(" USING btree ")[1] for row in rows}
    assert definitions == {
        "uq_sandbox_commands_global": "(sandbox_id, kind, name) WHERE (guild_id IS NULL)",
        "uq_sandbox_commands_guild": "(sandbox_id, guild_id, kind, name) WHERE (guild_id IS NOT NULL)",
        "idx_sandboxes_status": "(status)",
        "idx_sandboxes_owner": "(owner)",
        "idx_sandboxes_expires": "(expires_at) WHERE (status = 'running'::sandbox_status)",
        "idx_sandboxes_created": "(created_at)",
        "idx_sandbox_shares_user": "(user_id)",
        "idx_sandbox_guild_mapping_sandbox": "(sandbox_id)",
        "idx_sandbox_audit_log_sandbox_time": "(sandbox_id, created_at)",
        "idx_sandbox_audit_log_type": "(event_type)",
        "uq_recordings_name": "(name) WHERE (status <> 'deleting'::text)",
        "idx_recordings_owner": "(owner)",
        "uq_sandboxes_name_live": "(name) WHERE (status <> 'destroyed'::sandbox_status)",
        "uq_sandboxes_schema_live": "(schema_name) WHERE (status <> 'destroyed'::sandbox_status)",
    }


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (
            "sandboxes",
            """id name owner status schema_name discord_token_id created_at expires_at destroyed_at
            last_activity_at metadata credentials_generation credentials_key rest_level template resetting""",
        ),
        ("sandbox_guild_mapping", "guild_id sandbox_id registered_by registered_at"),
        ("sandbox_audit_log", "id sandbox_id event_type actor details created_at"),
        ("sandbox_routes", "guild_id sandbox_id expires_at"),
        ("gateway_processes", "process_id name started_at seen_at session"),
        ("sandbox_creations", "sandbox_id session"),
        (
            "gateway_resume_points",
            "application_id shard_count shard_id session_id resume_url sequence since saved_at epoch",
        ),
    ],
)
async def test_columns(connection: asyncpg.Connection, table: str, columns: str) -> None:
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position",
        table,
    )
    assert [row["column_name"] for row in rows] == columns.split()


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"name": "ab"}, "ck_sandboxes_name"),
        ({"name": "a" * 64}, "ck_sandboxes_name"),
        ({"name": "Alpha"}, "ck_sandboxes_name"),
        ({"name": "-alpha"}, "ck_sandboxes_name"),
        ({"name": "alpha-"}, "ck_sandboxes_name"),
        ({"name": "alpha\n"}, "ck_sandboxes_name"),
        ({"name": "a;drop table"}, "ck_sandboxes_name"),
        ({"name": "\u0430lpha"}, "ck_sandboxes_name"),  # a Cyrillic a
        ({"owner": ""}, "ck_sandboxes_owner"),
        ({"schema_name": "public"}, "ck_sandboxes_schema_name"),
        ({"schema_name": "sandbox_0A1B2C3D"}, "ck_sandboxes_schema_name"),
        ({"schema_name": "sandbox_0a1b2c3d\n"}, "ck_sandboxes_schema_name"),
        ({"metadata": "[]"}, "ck_sandboxes_metadata"),
    ],
)
async def test_a_bad_sandbox_is_refused_by_name(
    connection: asyncpg.Connection, changes: dict[str, str], constraint: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await add_sandbox(connection, **changes)
    assert caught.value.constraint_name == constraint


@pytest.mark.parametrize("expires_at", ["now() - interval '1 second'", "'infinity'"])
async def test_a_life_ends_after_it_began(connection: asyncpg.Connection, expires_at: str) -> None:
    await add_sandbox(connection)
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await connection.execute(f"UPDATE sandboxes SET created_at = now(), expires_at = {expires_at}")
    assert caught.value.constraint_name == "ck_sandboxes_expires_at"


@pytest.mark.parametrize("name", ["abc", "a-1", "a" * 63, "0--0"])
async def test_good_names(connection: asyncpg.Connection, name: str) -> None:
    sandbox = await add_sandbox(connection, name=name)
    assert await connection.fetchval("SELECT name FROM sandboxes WHERE id = $1", sandbox) == name


@pytest.mark.parametrize(
    ("column", "value", "constraint"),
    [
        ("name", "alpha", "uq_sandboxes_name_live"),
        ("schema_name", "sandbox_0a1b2c3d", "uq_sandboxes_schema_live"),
    ],
)
async def test_unique_until_destroyed(
    connection: asyncpg.Connection, column: str, value: str, constraint: str
) -> None:
    first = await add_sandbox(connection, **{column: value}, status="expired")
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await add_sandbox(connection, **{column: value})
    assert caught.value.constraint_name == constraint
    await connection.execute("UPDATE sandboxes SET status = 'destroyed' WHERE id = $1", first)
    second = await add_sandbox(connection, **{column: value})
    rows = await connection.fetch(f"SELECT id FROM sandboxes WHERE {column} = $1", value)
    assert {row["id"] for row in rows} == {first, second}


async def test_a_guild_has_one_sandbox(connection: asyncpg.Connection) -> None:
    first, second = await add_sandbox(connection), await add_sandbox(connection)
    await map_guild(connection, GUILD, first)
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await map_guild(connection, GUILD, second)
    assert caught.value.constraint_name == "pk_sandbox_guild_mapping"


@pytest.mark.parametrize("guild", ["", "1" * 16, "1" * 21, "11037394382254080x", "110373943822540800\n"])
async def test_a_bad_guild_id_is_refused(connection: asyncpg.Connection, guild: str) -> None:
    sandbox = await add_sandbox(connection)
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await map_guild(connection, guild, sandbox)
    assert caught.value.constraint_name == "ck_sandbox_guild_mapping_guild_id"


async def test_a_mapping_needs_its_sandbox(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError) as caught:
        await map_guild(connection, GUILD, uuid4())
    assert caught.value.constraint_name == "fk_sandbox_guild_mapping_sandbox"


async def test_mappings_go_with_the_row_and_the_audit_log_stays(connection: asyncpg.Connection) -> None:
    sandbox = await add_sandbox(connection)
    await map_guild(connection, GUILD, sandbox)
    await connection.execute(
        "INSERT INTO sandbox_audit_log (sandbox_id, event_type, actor, details) "
        "VALUES ($1, 'sandbox_created', 'alice', '{\"name\": \"alpha\"}')",
        sandbox,
    )
    await connection.execute("DELETE FROM sandboxes WHERE id = $1", sandbox)
    assert await connection.fetchval("SELECT count(*) FROM sandbox_guild_mapping") == 0
    entry = await connection.fetchrow("SELECT * FROM sandbox_audit_log WHERE sandbox_id = $1", sandbox)
    assert entry is not None
    assert entry["details"] == '{"name": "alpha"}'


async def test_an_unknown_audit_event_is_refused(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await connection.execute(
            "INSERT INTO sandbox_audit_log (sandbox_id, event_type, actor) VALUES ($1, 'eaten', 'alice')",
            uuid4(),
        )
    assert caught.value.constraint_name == "ck_sandbox_audit_log_event_type"
