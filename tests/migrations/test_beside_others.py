"""Migrating where other applications live: their tables, their schema, and what a role may not."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.migrate import MIGRATIONS_TABLE, MigrationError, migrate, migrations_dir
from sandbox_core.namespaces import SchemaProvisioner
from sandbox_core.postgres import create_pool

MIGRATIONS = len(list(migrations_dir().glob("*.sql")))
# As Rails makes it, and as golang-migrate does.
RAILS = "CREATE TABLE schema_migrations (version varchar NOT NULL PRIMARY KEY)"
GOLANG = "CREATE TABLE schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)"
OBJECTS = """
    SELECT relnamespace::regnamespace::text AS schema, relname::text AS name
    FROM pg_class
    WHERE relkind IN ('r', 'v') AND relnamespace::regnamespace::text !~ '^pg_|^information_schema'
UNION SELECT pronamespace::regnamespace::text, proname::text
    FROM pg_proc WHERE pronamespace::regnamespace::text !~ '^pg_|^information_schema'
UNION SELECT typnamespace::regnamespace::text, typname::text
    FROM pg_type WHERE typtype = 'e' AND typnamespace::regnamespace::text !~ '^pg_|^information_schema'
"""


async def objects(url: str) -> dict[str, set[str]]:
    """What each schema has, PostgreSQL's own apart."""
    found: dict[str, set[str]] = {}
    connection = await asyncpg.connect(url)
    try:
        for row in await connection.fetch(OBJECTS):
            found.setdefault(row["schema"], set()).add(row["name"])
    finally:
        await connection.close()
    return found


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def admin_url(servers: EmbeddedServers, empty_database_url: str) -> str:
    """The same empty database, as the superuser."""
    database = urlsplit(empty_database_url).path
    return urlunsplit(urlsplit(servers.postgres.admin_url)._replace(path=database))


@pytest.fixture
async def newcomer_url(admin_url: str, empty_database_url: str) -> str:
    """The same database, as a role that may do nothing in it but connect."""
    role = f"new-comer {urlsplit(empty_database_url).path[1:]}"
    await execute(admin_url, f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'low'")
    url = urlsplit(empty_database_url)
    return urlunsplit(url._replace(netloc=f"{role.replace(' ', '%20')}:low@{url.hostname}:{url.port}"))


@pytest.mark.parametrize("theirs", [RAILS, GOLANG])
@pytest.mark.parametrize("schema", ["public", "acme"])
async def test_another_applications_migrations_are_neither_read_nor_written(
    empty_database_url: str, theirs: str, schema: str
) -> None:
    filled = "INSERT INTO schema_migrations VALUES (20240101000000" + (
        ", false)" if theirs is GOLANG else ")"
    )
    await execute(empty_database_url, theirs, filled)
    await migrate(empty_database_url, schema=schema)
    await migrate(empty_database_url, schema=schema)
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert [str(row[0]) for row in await connection.fetch("SELECT version FROM schema_migrations")] == [
            "20240101000000"
        ]
        assert await connection.fetchval(f"SELECT count(*) FROM {schema}.{MIGRATIONS_TABLE}") == MIGRATIONS
        for _ in range(MIGRATIONS):
            await migrate(empty_database_url, down=True, schema=schema)
        assert await connection.fetchval("SELECT count(*) FROM schema_migrations") == 1
    finally:
        await connection.close()


@pytest.mark.parametrize("schema", ["acme", "user", "_select"])
async def test_a_control_schema_holds_all_of_it(empty_database_url: str, schema: str) -> None:
    await migrate(empty_database_url, schema=schema)
    other = await objects(empty_database_url)
    await migrate(empty_database_url)
    both = await objects(empty_database_url)
    (name,) = other
    assert name.strip('"') == schema
    assert both == other | {"public": other[name]}


async def test_a_schema_that_the_operator_made_is_enough(
    admin_url: str, newcomer_url: str, empty_database_url: str
) -> None:
    role = newcomer_role(newcomer_url)
    await execute(admin_url, f'CREATE SCHEMA acme AUTHORIZATION "{role}"')
    await migrate(newcomer_url, schema="acme")
    assert (await objects(empty_database_url)).keys() == {"acme"}


def newcomer_role(url: str) -> str:
    return str(urlsplit(url).username).replace("%20", " ")


@pytest.mark.parametrize(
    ("schema", "before", "statement"),
    [
        ("public", (), 'GRANT CREATE ON SCHEMA public TO "{role}";'),
        ("acme", (), 'GRANT CREATE ON DATABASE {database} TO "{role}";'),
        ("acme", ("CREATE SCHEMA acme",), 'GRANT USAGE, CREATE ON SCHEMA acme TO "{role}";'),
        (
            "user",
            ('CREATE SCHEMA "user"', 'GRANT USAGE ON SCHEMA "user" TO "{role}"'),
            'GRANT CREATE ON SCHEMA "user" TO "{role}";',
        ),
    ],
)
async def test_a_right_that_is_missing_is_named_with_the_statement_that_gives_it(
    admin_url: str, newcomer_url: str, schema: str, before: tuple[str, ...], statement: str
) -> None:
    role, url = newcomer_role(newcomer_url), urlsplit(newcomer_url)
    names = {"role": role, "database": url.path[1:]}
    await execute(admin_url, *(each.format(**names) for each in before))
    with pytest.raises(MigrationError) as refused:
        await migrate(newcomer_url, schema=schema)
    said = str(refused.value)
    assert said.endswith(statement.format(**names))
    for part in (role, f"{url.hostname}:{url.port}", schema, url.path[1:]):
        assert part in said
    assert "low@" not in said
    assert re.search(r"pq:|42501|Error", said) is None
    # Nothing more than it says is needed.
    await execute(admin_url, statement.format(**names))
    await migrate(newcomer_url, schema=schema)


async def test_tables_of_another_role_are_named(
    empty_database_url: str, admin_url: str, newcomer_url: str
) -> None:
    await migrate(empty_database_url)
    owner, role = urlsplit(empty_database_url).username, newcomer_role(newcomer_url)
    await execute(admin_url, f'GRANT CREATE ON SCHEMA public TO "{role}"')
    with pytest.raises(MigrationError, match=f"migrate as {owner}"):
        await migrate(newcomer_url)


async def test_what_the_functions_call_is_looked_for_in_the_control_schema_alone(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url, schema="acme")
    connection = await asyncpg.connect(empty_database_url)
    try:
        found = {
            row["name"]: row["search_path"]
            for row in await connection.fetch(
                "SELECT proname::text AS name,"
                " (SELECT c FROM unnest(proconfig) AS c WHERE c LIKE 'search_path=%') AS search_path"
                " FROM pg_proc WHERE pronamespace = 'acme'::regnamespace"
            )
        }
        # These call nothing but PostgreSQL's own functions.
        alone = ("sandbox_schema_name", "raise_shard_epoch", "sandbox_session", "sandbox_session_is_over")
        assert {found.pop(name) for name in alone} == {None}
        assert found
        assert set(found.values()) == {"search_path=acme"}
    finally:
        await connection.close()


async def test_a_role_with_a_search_path_of_its_own_changes_nothing(
    admin_url: str, empty_database_url: str
) -> None:
    role, database = urlsplit(empty_database_url).username, urlsplit(empty_database_url).path[1:]
    await execute(
        admin_url,
        "CREATE SCHEMA elsewhere",
        f'GRANT ALL ON SCHEMA elsewhere TO "{role}"',
        f'ALTER ROLE "{role}" IN DATABASE "{database}" SET search_path = elsewhere',
    )
    await migrate(empty_database_url)
    assert (await objects(empty_database_url)).keys() == {"public"}
    async with await create_pool(empty_database_url, search_path="public") as pool:
        await SchemaProvisioner(pool).create("sandbox_00000001")
        assert await SchemaProvisioner(pool).orphans() == ["sandbox_00000001"]
