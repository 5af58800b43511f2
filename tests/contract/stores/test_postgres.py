from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from asyncpg import exceptions as pg

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import (
    DependencyFaulty,
    DependencyUnavailable,
    GuildAlreadyMapped,
    LoginRefused,
    NameTaken,
    OutcomeUnknown,
    TransitionNotAllowed,
)
from sandbox_core.models import Sandbox, SandboxStatus
from sandbox_core.postgres import Pool, connected, create_pool, sandboxes, transaction, translating
from sandbox_core.postgres.errors import OVERDUE, ShortIdTakenError, unavailable
from tests.embedded.hanging import frozen

from .conftest import NOW

GUILD = "100000000000000001"


async def test_the_pool_speaks_json_and_names_itself(database_url: str) -> None:
    pool = await create_pool(database_url, application_name="somebody")
    async with connected(pool) as connection:
        assert await connection.fetchval("SELECT $1::jsonb", {"a": [1, None, "ü"]}) == {"a": [1, None, "ü"]}
        assert await connection.fetchval("SHOW application_name") == "somebody"
    await pool.close()


async def test_the_pool_takes_a_schema_and_no_prepared_statements(database_url: str) -> None:
    pool = await create_pool(database_url, search_path="sandbox_00000001", prepared_statements=False)
    async with connected(pool) as connection:
        assert await connection.fetchval("SHOW search_path") == "sandbox_00000001"
        await connection.fetchval("SELECT $1::int", 1)
        assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE from_sql") == 0
    await pool.close()


async def test_what_is_committed_stays_done_when_the_server_hangs_afterwards(
    pool: Pool, servers: EmbeddedServers
) -> None:
    async with AsyncExitStack() as hanging, connected(pool) as connection:
        async with connection.transaction():
            await connection.execute("CREATE TABLE made ()")
        await hanging.enter_async_context(frozen(servers.postgres))
    async with connected(pool) as connection:
        assert await connection.fetchval("SELECT to_regclass('made')") == "made"


async def test_a_transaction_is_rolled_back_on_an_error(pool: Pool) -> None:
    async def fail_half_way() -> None:
        async with transaction(pool) as connection:
            await connection.execute("CREATE TABLE half_made ()")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_half_way()
    async with connected(pool) as connection:
        assert await connection.fetchval("SELECT to_regclass('half_made')") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"path": "/nowhere"}, "there is no such database"),
        ({"user": "nobody"}, "the password is wrong, or there is no such role"),
    ],
)
async def test_a_login_that_is_refused(database_url: str, change: dict[str, str], reason: str) -> None:
    url = urlsplit(database_url)
    if "user" in change:
        url = url._replace(netloc=f"{change['user']}:wrong-secret@{url.hostname}:{url.port}")
    else:
        url = url._replace(**change)
    with pytest.raises(DependencyUnavailable) as refused:
        await create_pool(urlunsplit(url))
    assert isinstance(refused.value, LoginRefused)
    who = change.get("user", url.username)
    where = f"login refused at {url.hostname}:{url.port} as {who}"
    assert (refused.value.dependency, refused.value.reason) == (
        "PostgreSQL",
        f"{where}: {reason}; check DATABASE_URL",
    )
    assert "wrong-secret" not in str(refused.value)


async def test_nobody_listens() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with pytest.raises(DependencyUnavailable) as away:
            await create_pool(f"postgresql://somebody:secret@127.0.0.1:{port}/db")
    assert away.value.reason == f"connection refused at 127.0.0.1:{port}"


async def test_the_server_dies_under_the_pool(servers: EmbeddedServers, pool: Pool) -> None:
    async def in_a_transaction() -> None:
        async with transaction(pool) as connection:
            await servers.postgres.kill()
            await connection.execute("SELECT 1")

    with pytest.raises(DependencyUnavailable) as lost:
        await in_a_transaction()
    url = urlsplit(servers.database_url)
    assert lost.value.reason == f"the connection was lost at {url.hostname}:{url.port}"
    with pytest.raises(DependencyUnavailable):
        async with connected(pool):
            pytest.fail("there is nothing to connect to")
    await servers.postgres.start()
    async with connected(pool) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_connection_ended_by_the_administrator(pool: Pool, servers: EmbeddedServers) -> None:
    admin = await asyncpg.connect(servers.postgres.admin_url)

    async def use_it_all_the_same() -> None:
        async with connected(pool) as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
            await connection.fetchval("SELECT pg_sleep(60)")

    with pytest.raises(DependencyUnavailable) as lost:
        await use_it_all_the_same()
    assert lost.value.problem in {"the connection was lost", "it is shutting down"}
    await admin.close()


async def test_a_statement_that_takes_too_long(pool: Pool) -> None:
    async def by_our_clock() -> None:
        async with connected(pool) as connection:
            await connection.fetchval("SELECT pg_sleep(60)", timeout=0.05)

    async def by_the_servers() -> None:
        async with transaction(pool) as connection:
            await connection.execute("SET LOCAL statement_timeout = '20ms'")
            await connection.fetchval("SELECT pg_sleep(60)")

    for take_too_long in (by_our_clock, by_the_servers):
        with pytest.raises(DependencyUnavailable) as late:
            await take_too_long()
        assert isinstance(late.value, DependencyFaulty)
        assert late.value.problem == OVERDUE


async def test_a_refused_commit_is_known_to_have_failed(pool: Pool) -> None:
    async with connected(pool) as connection:
        await connection.execute("CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")

    async def commit_what_is_refused() -> None:
        async with transaction(pool) as connection:
            await connection.execute("INSERT INTO late VALUES (1), (1)")

    with pytest.raises(DependencyUnavailable, match="23505") as refused:
        await commit_what_is_refused()
    assert not isinstance(refused.value, OutcomeUnknown)


async def test_a_closed_pool(database_url: str) -> None:
    pool = await create_pool(database_url)
    await pool.close()
    with pytest.raises(DependencyUnavailable):
        async with connected(pool):
            pytest.fail("the pool is closed")


async def test_a_conflict_that_the_server_resolves(pool: Pool) -> None:
    async with connected(pool) as connection:
        await connection.execute("CREATE TABLE pair (id int PRIMARY KEY, n int)")
        await connection.execute("INSERT INTO pair VALUES (1, 0), (2, 0)")
    both_hold = asyncio.Barrier(2)

    async def update(first: int, second: int) -> None:
        async with transaction(pool) as connection:
            await connection.execute("UPDATE pair SET n = n + 1 WHERE id = $1", first)
            await both_hold.wait()
            await connection.execute("UPDATE pair SET n = n + 1 WHERE id = $1", second)

    outcomes = await asyncio.gather(update(1, 2), update(2, 1), return_exceptions=True)
    (victim,) = (outcome for outcome in outcomes if outcome is not None)
    assert isinstance(victim, DependencyUnavailable)
    assert victim.problem == "it is busy with a conflicting change"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 5432)"), "connection refused"),
        (ConnectionResetError(), "the connection was lost"),
        (socket.gaierror(-2, "Name or service not known"), "its host name can't be resolved"),
        (TimeoutError(), "no answer in time"),
        (pg.ConnectionDoesNotExistError("x"), "the connection was lost"),
        (pg.CannotConnectNowError("x"), "it is starting up or shutting down"),
        (pg.AdminShutdownError("x"), "it is shutting down"),
        (pg.TooManyConnectionsError("x"), "it has no free connection"),
        (pg.DiskFullError("x"), "its disk is full"),
        (pg.OutOfMemoryError("x"), "it is out of memory"),
        (pg.InsufficientResourcesError("x"), "it is out of resources"),
        (pg.PostgresIOError("x"), "it reports a fault of its system"),
        (pg.ReadOnlySQLTransactionError("x"), "it takes no writes at present"),
        (pg.LockNotAvailableError("x"), "another session holds a lock on what is needed"),
        (pg.SerializationError("x"), "it is busy with a conflicting change"),
        (
            asyncpg.InterfaceError("cannot call Connection.x(): the connection is closed"),
            "the connection was lost",
        ),
        (
            asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
            "the connection was lost",
        ),
    ],
)
def test_errors_that_mean_it_is_away(error: Exception, reason: str) -> None:
    with pytest.raises(DependencyUnavailable) as away, translating():
        raise error
    assert (away.value.dependency, away.value.problem) == ("PostgreSQL", reason)
    assert away.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DataError("invalid input for query argument $1"),
        asyncpg.InterfaceError("another operation is in progress"),
        asyncpg.InternalClientError("could not resolve query result and/or argument types in 5 attempts"),
        pg.UndefinedColumnError("x"),
        pg.PostgresSyntaxError("x"),
        ZeroDivisionError(),
        asyncio.CancelledError(),
    ],
)
def test_faults_stay_what_they_are(error: BaseException) -> None:
    assert unavailable(error) is None
    with pytest.raises(type(error)) as raised, translating():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT nothing_of_that_name", "42703"),
        ("SELECT 1/0", "22012"),
        ("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'XX123'; END $$", "XX123"),
        ("INSERT INTO sandbox_guild_mapping (guild_id) VALUES ('1')", "23502"),
    ],
)
async def test_any_error_that_it_answers_is_the_servers(pool: Pool, statement: str, code: str) -> None:
    with pytest.raises(DependencyUnavailable) as answered:
        async with transaction(pool) as connection:
            await connection.execute(statement)
    assert answered.value.problem.startswith(f"it reports the error {code} (")


async def insert(pool: Pool, sandbox: Sandbox) -> None:
    async with transaction(pool) as connection:
        await sandboxes.insert(connection, sandbox, limit=10)


async def test_violations_are_named_by_their_constraint(
    pool: Pool, sandbox: Sandbox, new_sandbox: Callable[..., Sandbox]
) -> None:
    await insert(pool, sandbox)
    with pytest.raises(NameTaken) as taken:
        await insert(pool, new_sandbox(name=sandbox.name))
    assert taken.value.name == sandbox.name
    with pytest.raises(ShortIdTakenError):
        await insert(pool, new_sandbox(schema_name=sandbox.schema_name))
    with pytest.raises(DependencyUnavailable, match="23505"):
        await insert(pool, new_sandbox(id=sandbox.id))

    statement = """
        INSERT INTO sandbox_guild_mapping (guild_id, sandbox_id, registered_by) VALUES ($1, $2, 'somebody')
    """
    async with connected(pool) as connection:
        await connection.execute(statement, GUILD, sandbox.id)
    with pytest.raises(GuildAlreadyMapped) as mapped, translating(guild_id=GUILD):
        async with connected(pool) as connection:
            await connection.execute(statement, GUILD, sandbox.id)
    assert isinstance(mapped.value, GuildAlreadyMapped)


async def test_a_row_is_read_as_it_was_written(pool: Pool, new_sandbox: Callable[..., Sandbox]) -> None:
    written = new_sandbox(metadata={"owner_name": "Ünï"})
    await insert(pool, written)
    async with connected(pool) as connection:
        assert await sandboxes.by_id(connection, written.id) == written


async def test_a_status_changes_only_from_the_expected_one(pool: Pool, sandbox: Sandbox) -> None:
    await insert(pool, sandbox)
    async with transaction(pool) as connection:
        creating = await sandboxes.set_status(
            connection, sandbox.id, SandboxStatus.PENDING, SandboxStatus.CREATING, at=NOW
        )
        assert creating.status is SandboxStatus.CREATING
        with pytest.raises(TransitionNotAllowed) as refused:
            await sandboxes.set_status(
                connection, sandbox.id, SandboxStatus.RUNNING, SandboxStatus.DESTROYING, at=NOW
            )
        assert refused.value.current is SandboxStatus.CREATING
        with pytest.raises(TransitionNotAllowed):
            await sandboxes.set_status(
                connection, sandbox.id, SandboxStatus.CREATING, SandboxStatus.EXPIRED, at=NOW
            )


async def test_a_status_of_nothing(pool: Pool, sandbox: Sandbox) -> None:
    with pytest.raises(TransitionNotAllowed) as refused:
        async with transaction(pool) as connection:
            await sandboxes.set_status(
                connection, sandbox.id, SandboxStatus.PENDING, SandboxStatus.CREATING, at=NOW
            )
    assert refused.value.current is SandboxStatus.DESTROYED


async def test_of_many_who_change_a_status_one_succeeds(pool: Pool, sandbox: Sandbox) -> None:
    await insert(pool, sandbox)

    async def change() -> None:
        async with transaction(pool) as connection:
            await sandboxes.set_status(
                connection, sandbox.id, SandboxStatus.PENDING, SandboxStatus.CREATING, at=NOW
            )

    outcomes = await asyncio.gather(*(change() for _ in range(6)), return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, TransitionNotAllowed) for outcome in outcomes) == 5


async def test_who_stands_still_in_a_transaction_does_not_hold_up_the_others(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen process keeps its connection, and without an end its locks."""
    monkeypatch.setattr("sandbox_core.postgres.pool._IDLE_AT_MOST_MS", 200)
    lock = "SELECT pg_advisory_xact_lock(1)"
    frozen, go_on = asyncio.Event(), asyncio.Event()

    async def stand_still() -> None:
        async with transaction(pool) as connection:
            await connection.execute(lock)
            frozen.set()
            await go_on.wait()
            await connection.execute("SELECT 1")

    standing = asyncio.create_task(stand_still())
    await frozen.wait()
    async with transaction(pool) as connection:
        await connection.execute(lock)
    go_on.set()
    with pytest.raises(DependencyUnavailable) as caught:
        await standing
    assert not isinstance(caught.value, OutcomeUnknown)
