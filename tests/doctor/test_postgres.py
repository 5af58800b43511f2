"""PostgreSQL, broken in one way at a time: what is found, where, and whether the statement mends it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sandbox_bot.doctor import State
from sandbox_bot.doctor.findings import Look
from sandbox_bot.doctor.postgres_rights import TABLES, Role, look_at_rights
from sandbox_bot.doctor.versions import judge_version
from sandbox_bot.migrate import migrate, migrations_dir
from tests.doctor.conftest import Doctor, Found, Postgres
from tests.doctor.pooler import forgetful_pooler
from tests.doctor.servers import standby

SCHEMA = "sandbox_0123abcd"
NOBODY_LISTENS = "postgresql://bot:secret-of-it@127.0.0.1:1/bot"


async def _grant_all(server: Postgres) -> None:
    """What a role needs that runs the bot on another one's tables."""
    await server.run(
        f"GRANT CREATE ON DATABASE {server.database} TO {server.role}",
        f"GRANT SELECT ON sandbox_schema_migrations TO {server.role}",
        *(f"GRANT {', '.join(rights)} ON {table} TO {server.role}" for table, rights in TABLES.items()),
    )


async def test_the_owner_of_a_migrated_database_is_well(doctor: Doctor) -> None:
    found = await doctor("PostgreSQL")
    found.well()
    assert "create, register and destroy were tried and undone" in found.text
    assert "notifications arrive" in found.text


async def test_nothing_is_changed_by_looking(doctor: Doctor, migrated: Postgres) -> None:
    await _grant_all(migrated)

    async def contents() -> list[Any]:
        counts = [await migrated.admin.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES]
        schemas = await migrated.admin.fetch("SELECT nspname FROM pg_namespace ORDER BY 1")
        relations = await migrated.admin.fetchval("SELECT count(*) FROM pg_class")
        return [counts, schemas, relations]

    before = await contents()
    (await doctor("PostgreSQL", database_url=migrated.url)).well()
    assert await contents() == before


async def test_an_empty_database_is_one_migration_from_well(doctor: Doctor, empty: Postgres) -> None:
    await empty.run(
        f"GRANT CREATE ON DATABASE {empty.database} TO {empty.role}",
        f"GRANT USAGE, CREATE ON SCHEMA public TO {empty.role}",
    )
    relations = await empty.admin.fetchval("SELECT count(*) FROM pg_class")
    found = await doctor("PostgreSQL", database_url=empty.url)
    assert found.only().commands == ("sandboxctl migrate",)
    assert "migrate, create, register and destroy were tried and undone" in found.text
    assert await empty.admin.fetchval("SELECT count(*) FROM pg_class") == relations

    await migrate(empty.url)
    (await doctor("PostgreSQL", database_url=empty.url)).well()


RIGHTS = [
    pytest.param(
        "REVOKE CREATE ON DATABASE {database} FROM {role}", "may not create schemas", id="create on database"
    ),
    pytest.param("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "may not use the schema public", id="usage"),
    pytest.param("REVOKE SELECT ON sandbox_schema_migrations FROM {role}", "may not read", id="migrations"),
    *(
        pytest.param(
            f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC", f"may not call {function}", id=function
        )
        for function in ("create_sandbox_schema(text)", "notify_sandbox_route(text)")
    ),
    pytest.param("REVOKE USAGE ON TYPE sandbox_status FROM PUBLIC", "type sandbox_status", id="type"),
    pytest.param("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC", "may not connect", id="connect"),
    pytest.param("ALTER ROLE {role} NOLOGIN", "may not log in", id="login"),
    pytest.param("ALTER ROLE {role} CONNECTION LIMIT 0", "no connection left", id="connections"),
    pytest.param("ALTER ROLE {role} CONNECTION LIMIT 5", "may have 5 connections", id="few connections"),
    pytest.param(
        "ALTER DATABASE {database} CONNECTION LIMIT 9", "may have 9 connections", id="busy database"
    ),
    pytest.param(
        "ALTER DATABASE {database} SET default_transaction_read_only = on", "read-only", id="read-only"
    ),
]


@pytest.mark.parametrize(("broken", "named"), RIGHTS)
async def test_a_right_less_is_named_with_the_statement_that_gives_it(
    doctor: Doctor, migrated: Postgres, broken: str, named: str
) -> None:
    await _grant_all(migrated)
    await migrated.run(broken.format(role=migrated.role, database=migrated.database))

    finding = (await doctor("PostgreSQL", database_url=migrated.url)).only()

    assert named in finding.detail
    assert finding.where == urlsplit(migrated.url).netloc.rsplit("@", 1)[1]
    await migrated.run("SET default_transaction_read_only = off", *finding.commands)
    (await doctor("PostgreSQL", database_url=migrated.url)).well()


async def test_each_single_right_in_each_table(migrated: Postgres) -> None:
    await _grant_all(migrated)
    connection = await asyncpg.connect(migrated.url)
    role = Role(migrated.role, migrated.database, "public")
    for table, rights in TABLES.items():
        for right in rights:
            await migrated.run(f"REVOKE {right} ON {table} FROM {migrated.role}")
            look = Look("PostgreSQL", "")
            assert not await look_at_rights(connection, look, role)
            (finding,) = look.found
            assert finding.detail == f"the role lacks {right} in {table}"
            await migrated.run(*finding.commands)
    assert await look_at_rights(connection, Look("PostgreSQL", ""), role)
    await connection.close()


async def test_a_role_that_may_only_read_and_one_that_may_nothing(doctor: Doctor, migrated: Postgres) -> None:
    await migrated.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {migrated.role}")
    found = await doctor("PostgreSQL", database_url=migrated.url)
    assert f"lacks rights in {len(TABLES) - 1} of {len(TABLES)} tables" in found.text
    await migrated.run(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {migrated.role}")
    found = await doctor("PostgreSQL", database_url=migrated.url)
    # Every one of them has its statement: what needs the rights is not tried as well.
    assert all(each.commands for each in found.wrong), found.text

    found = await _mended(doctor, migrated)
    found.well()


async def test_statements_stand_in_the_order_in_which_they_work(doctor: Doctor, empty: Postgres) -> None:
    found = await doctor("PostgreSQL", database_url=empty.url, sandbox_control_schema="control")
    (grant,), (command,) = (finding.commands for finding in found.wrong)
    assert grant.startswith("GRANT CREATE ON DATABASE")
    assert command == "sandboxctl migrate"
    await empty.run(grant)
    await migrate(empty.url, schema="control")


async def test_a_role_without_create_in_public_can_not_migrate(doctor: Doctor, empty: Postgres) -> None:
    found = await doctor("PostgreSQL", database_url=empty.url)
    assert "may not make tables in the schema public" in found.text
    await _mended(doctor, empty)
    await migrate(empty.url)
    (await doctor("PostgreSQL", database_url=empty.url)).well()


async def _mended(doctor: Doctor, server: Postgres) -> Found:
    """Do what is printed, until nothing is left that a statement mends."""
    for _ in range(5):
        found = await doctor("PostgreSQL", database_url=server.url)
        commands = [command for each in found.wrong for command in each.commands if command.endswith(";")]
        if not commands:
            return found
        await server.run(*commands)
    raise AssertionError(found.text)


async def test_a_sandbox_of_another_role_could_not_be_destroyed(doctor: Doctor, migrated: Postgres) -> None:
    await _grant_all(migrated)
    await migrated.run(
        "SELECT create_sandbox_schema('0123abcd')",
        f"""
        INSERT INTO sandboxes (id, name, owner, status, schema_name, expires_at)
        VALUES (gen_random_uuid(), 'theirs', '1', 'running', '{SCHEMA}', now() + interval '1 day')
        """,
    )
    finding = (await doctor("PostgreSQL", database_url=migrated.url)).only()
    assert SCHEMA in finding.detail
    await migrated.run(*finding.commands)
    (await doctor("PostgreSQL", database_url=migrated.url)).well()

    connection = await asyncpg.connect(migrated.url)
    assert await connection.fetchval("SELECT drop_sandbox_schema('0123abcd')")
    await connection.close()


async def test_a_migration_is_missing_lost_or_unknown(doctor: Doctor, migrated: Postgres) -> None:
    await _grant_all(migrated)
    await migrated.run("INSERT INTO sandbox_schema_migrations VALUES ('29990101000000')")
    assert "newer than this program" in (await doctor("PostgreSQL", database_url=migrated.url)).only().detail
    await migrated.run("DELETE FROM sandbox_schema_migrations WHERE version = '29990101000000'")

    await migrated.run("DROP TABLE sandbox_notices")
    lost = (await doctor("PostgreSQL", database_url=migrated.url)).only()
    assert lost.detail.endswith("missing: sandbox_notices")

    await migrated.run("DELETE FROM sandbox_schema_migrations WHERE version = '20261122120000'")
    found = await doctor("PostgreSQL", database_url=migrated.url)
    known = len(list(migrations_dir().glob("*.sql")))
    assert f"1 of {known} migrations are not applied" in found.only().detail
    assert f"the tables belong to sandbox: the role {migrated.role} can't migrate them" in found.text


async def test_a_trial_that_fails_tells_where(doctor: Doctor, migrated: Postgres) -> None:
    await _grant_all(migrated)
    await migrated.run("ALTER TABLE sandbox_guild_mapping ADD CHECK (registered_by <> '0')")
    finding = (await doctor("PostgreSQL", database_url=migrated.url)).only()
    assert "stopped at “register”" in finding.detail
    assert "sandbox_guild_mapping" in finding.detail


async def test_a_standby_takes_no_writes(doctor: Doctor, tmp_path: Path) -> None:
    async with standby(tmp_path) as server:
        finding = (await doctor("PostgreSQL", database_url=server.url)).only()
    assert finding.detail == "it is a standby, which takes no writes"


async def test_a_lock_that_somebody_holds_is_not_waited_for(doctor: Doctor, migrated: Postgres) -> None:
    await _grant_all(migrated)
    async with migrated.admin.transaction():
        await migrated.run("LOCK TABLE sandboxes IN SHARE MODE")
        finding = (await doctor("PostgreSQL", database_url=migrated.url)).only()
    assert "stopped at “create”" in finding.detail
    assert "lock" in finding.detail


async def test_a_pooler_that_loses_notifications(doctor: Doctor, database_url: str) -> None:
    url = urlsplit(database_url)
    async with forgetful_pooler(url.hostname or "", url.port or 0) as port:
        through = urlunsplit(url._replace(netloc=url.netloc.replace(f":{url.port}", f":{port}")))
        finding = (await doctor("PostgreSQL", database_url=through)).only()
    assert "did not arrive" in finding.detail
    assert "pooler in session mode" in finding.mend


async def test_a_search_path_that_does_not_arrive(doctor: Doctor, migrated: Postgres) -> None:
    await _grant_all(migrated)
    await migrated.run(f"ALTER ROLE {migrated.role} SET search_path = pg_catalog")
    # The bot asks for its own as it connects.
    (await doctor("PostgreSQL", database_url=migrated.url)).well()
    url = urlsplit(migrated.url)
    async with forgetful_pooler(url.hostname or "", url.port or 0, forgets=b"search_path") as port:
        through = urlunsplit(url._replace(netloc=url.netloc.replace(f":{url.port}", f":{port}")))
        found = await doctor("PostgreSQL", database_url=through)
    assert "search_path is pg_catalog, and not public" in found.wrong[0].detail


@pytest.mark.parametrize("made_before", [True, False])
async def test_a_control_schema_of_its_own(doctor: Doctor, empty: Postgres, made_before: bool) -> None:
    settings = {"database_url": empty.url, "sandbox_control_schema": "control"}
    await empty.run(f"GRANT CREATE ON DATABASE {empty.database} TO {empty.role}")
    if made_before:
        await empty.run("CREATE SCHEMA control")
        lacking = (await doctor("PostgreSQL", **settings)).wrong[0]
        assert lacking.commands == (f'GRANT USAGE, CREATE ON SCHEMA "control" TO "{empty.role}";',)
        await empty.run(*lacking.commands)
    found = await doctor("PostgreSQL", **settings)
    assert found.only().commands == ("sandboxctl migrate",)
    assert "migrate, create, register and destroy were tried and undone" in found.text
    await migrate(empty.url, schema="control")
    (await doctor("PostgreSQL", **settings)).well()


async def test_what_is_no_postgresql(doctor: Doctor, database_url: str, redis_url: str) -> None:
    valkey = urlsplit(redis_url).port
    url = urlsplit(database_url)
    there = urlunsplit(url._replace(netloc=url.netloc.replace(f":{url.port}", f":{valkey}")))
    finding = (await doctor("PostgreSQL", database_url=there)).only()
    assert finding.where == f"127.0.0.1:{valkey}"
    assert finding.mend

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        odd = server.sockets[0].getsockname()[1]
        there = urlunsplit(url._replace(netloc=url.netloc.replace(f":{url.port}", f":{odd}")))
        finding = (await doctor("PostgreSQL", database_url=there)).only()
        assert finding.where == f"127.0.0.1:{odd}"


async def test_no_such_database_and_a_wrong_password(doctor: Doctor, migrated: Postgres) -> None:
    url = urlsplit(migrated.url)
    absent = (await doctor("PostgreSQL", database_url=urlunsplit(url._replace(path="/absent")))).only()
    assert absent.commands == (f'CREATE DATABASE "absent" OWNER "{migrated.role}";',)
    wrong = f"postgresql://{migrated.role}:another-one@{url.hostname}:{url.port}/{migrated.database}"
    refused = (await doctor("PostgreSQL", database_url=wrong)).only()
    assert refused.state is State.AWAY
    assert f"refused the login as {migrated.role}" in refused.detail


async def test_clocks_that_are_apart(doctor: Doctor) -> None:
    found = await doctor("PostgreSQL", clock=lambda: datetime.now(UTC) + timedelta(seconds=30))
    assert "30.0 s apart" in found.only().detail


async def test_the_server_is_away(doctor: Doctor) -> None:
    found = await doctor("PostgreSQL", database_url=NOBODY_LISTENS)
    assert found.only().state is State.AWAY
    assert found.only().where == "127.0.0.1:1"
    other = await doctor("Redis", database_url=NOBODY_LISTENS)
    other.well()


def test_an_old_version() -> None:
    look = Look("PostgreSQL", "db:5432")
    judge_version(look, "14.9", (15,), "PostgreSQL 15 or newer is needed.")
    judge_version(look, "15.0", (15,), "PostgreSQL 15 or newer is needed.")
    assert [finding.state for finding in look.found] == [State.FAILED, State.OK]
