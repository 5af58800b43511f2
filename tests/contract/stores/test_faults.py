"""Each fault of a server, made for real, with the sentence that a person reads: what was wrong, and where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from sandbox_bot.discord_rest import TokenRefusedError, discord_rest
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.error_text import explain
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.errors import translating as nats_errors
from sandbox_core.postgres import connected, create_pool, transaction
from sandbox_core.redis.client import create_client
from sandbox_core.redis.errors import translating as redis_errors
from sandbox_core.settings import Settings, load_settings
from tests.doctor.servers import nats_server
from tests.e2e.harness import eventually, free_port

SECRET = "Qz7Wx"


@asynccontextmanager
async def answering(answer: bytes, *, at_once: bool = False) -> AsyncIterator[str]:
    """Something that listens, and says this to whatever it is sent; with b"" it says nothing at all.

    `at_once` has it speak first.
    """

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer:
            if not at_once:
                await reader.read(1)
            writer.write(answer)
            await writer.drain()
            writer.close()
            return
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def sentence(act: Awaitable[object]) -> str:
    """What a person reads of the fault."""
    with pytest.raises(DependencyUnavailable) as fault:
        await act
    text = explain(fault.value)
    assert text.code == "SANDBOX_012"
    assert SECRET not in f"{text} {fault.value} {fault.value.reason}"
    return text.sentence


# PostgreSQL


async def ask(url: str, statement: str = "SELECT 1", *, timeout: float = 2.0) -> None:
    pool = await create_pool(url, min_size=0, max_size=2)
    try:
        async with transaction(pool) as connection:
            await connection.execute(statement, timeout=timeout)
    finally:
        await pool.close()


@pytest.fixture
async def admin(servers: EmbeddedServers, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(servers.postgres.admin_url, database=urlsplit(database_url).path[1:])
    yield connection
    await connection.close()


def where_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"


async def test_a_locked_table(database_url: str, admin: asyncpg.Connection) -> None:
    late = "a statement took too long: another session may hold a lock on what it needs"
    async with admin.transaction():
        await admin.execute("LOCK TABLE sandboxes IN ACCESS EXCLUSIVE MODE")
        for statement, timeout, problem in (
            ("SELECT 1 FROM sandboxes", 0.2, late),
            ("SET LOCAL statement_timeout = 50; SELECT 1 FROM sandboxes", 5.0, late),
            (
                "SET LOCAL lock_timeout = 50; SELECT 1 FROM sandboxes",
                5.0,
                "another session holds a lock on what is needed",
            ),
        ):
            said = await sentence(ask(database_url, statement, timeout=timeout))
            assert said == f"PostgreSQL answers at {where_of(database_url)}, but {problem}."


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "SET TRANSACTION READ ONLY; UPDATE sandboxes SET name = name",
            "it takes no writes at present",
        ),
        ("SELECT * FROM pg_authid", "the bot's role lacks a right: permission denied for table pg_authid"),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100'; END $$", "its disk is full"),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53200'; END $$", "it is out of memory"),
        (
            "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '58030'; END $$",
            "it reports a fault of its system",
        ),
        (f"SELECT '{SECRET}'::int", "it reports the error 22P02 (InvalidTextRepresentationError)"),
    ],
)
async def test_postgres_answers_that_it_can_not(database_url: str, statement: str, problem: str) -> None:
    said = await sentence(ask(database_url, statement))
    assert said == f"PostgreSQL answers at {where_of(database_url)}, but {problem}."


async def test_postgres_without_a_free_connection(database_url: str, admin: asyncpg.Connection) -> None:
    await admin.execute(f"CREATE ROLE crowded LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 0")
    url = urlsplit(database_url)
    try:
        said = await sentence(ask(f"postgresql://crowded:{SECRET}@{where_of(database_url)}{url.path}"))
    finally:
        await admin.execute("DROP ROLE crowded")
    assert said == f"PostgreSQL answers at {where_of(database_url)}, but it has no free connection."


@pytest.mark.parametrize(
    ("listening", "problem"),
    [
        (b"", "no answer in time"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there is not PostgreSQL"),
        (b"-ERR unknown command\r\n", "what answers there is not PostgreSQL"),
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_something_else_in_place_of_postgres(listening: bytes, problem: str) -> None:
    async with answering(listening) as where:
        for options in ("sslmode=disable", "sslmode=prefer"):
            said = await sentence(ask(f"postgresql://bot:{SECRET}@{where}/bot?{options}"))
            # asyncpg asks for TLS first, and takes what is no answer to that for a refusal of TLS.
            assert said in {
                f"PostgreSQL is unavailable ({problem} at {where}).",
                f"PostgreSQL is unavailable (the connection was lost at {where}).",
            }


async def test_names_that_nobody_knows() -> None:
    said = await sentence(ask(f"postgresql://bot:{SECRET}@nowhere.invalid:5432/bot"))
    assert said == "PostgreSQL is unavailable (its host name can't be resolved at nowhere.invalid:5432)."
    said = await sentence(ping(f"redis://bot:{SECRET}@nowhere.invalid:6379/0"))
    assert said == "Redis is unavailable (its host name can't be resolved at nowhere.invalid:6379)."
    said = await sentence(greet(f"nats://bot:{SECRET}@nowhere.invalid:4222"))
    assert said == "NATS is unavailable (its host name can't be resolved at nowhere.invalid:4222)."


# Redis


async def ping(url: str, *words: str) -> None:
    async with create_client(url) as client:
        with redis_errors():
            await client.execute_command(*(words or ("PING",)))


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("READONLY You can't write", "it takes no writes: it is a replica (READONLY)"),
        ("LOADING Valkey is loading", "it is loading its data (LOADING)"),
        ("MISCONF Valkey is configured to", "it takes no writes: it can't save its data (MISCONF)"),
        ("MASTERDOWN Link with MASTER is down", "it is a replica without its primary (MASTERDOWN)"),
        ("NOREPLICAS Not enough", "it takes no writes: it has too few replicas (NOREPLICAS)"),
        ("CLUSTERDOWN Hash slot", "its cluster is down (CLUSTERDOWN)"),
        ("BUSY Valkey is busy", "it is busy with a script (BUSY)"),
        (f"WRONGTYPE {SECRET}", "it reports the error WRONGTYPE"),
    ],
)
async def test_redis_answers_that_it_can_not(redis_url: str, reply: str, problem: str) -> None:
    # `error_reply` sends what the server itself sends then.
    script = f'return redis.error_reply("{reply}")'
    said = await sentence(ping(redis_url, "EVAL", script, "0"))
    assert said == f"Redis answers at {where_of(redis_url)}, but {problem}."


async def test_redis_with_a_full_memory(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as admin:
        await admin.config_set("maxmemory", "1")
        try:
            said = await sentence(ping(redis_url, "SET", "key", "value"))
        finally:
            await admin.config_set("maxmemory", "0")
    assert said == f"Redis answers at {where_of(redis_url)}, but its memory is full (OOM)."


@pytest.mark.usefixtures("impatient")
async def test_redis_that_is_away_or_something_else(redis_url: str) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    said = await sentence(ping(f"redis://bot:{SECRET}@{nobody}/0"))
    assert said == f"Redis is unavailable (connection refused at {nobody})."
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as where:
        said = await sentence(ping(f"redis://bot:{SECRET}@{where}/0"))
        assert said == f"Redis is unavailable (what answers there is not Redis at {where})."
    async with answering(b"") as where:
        said = await sentence(ping(f"redis://bot:{SECRET}@{where}/0"))
        assert said == f"Redis is unavailable (no answer in time at {where})."


async def test_redis_without_a_free_connection(redis_url: str) -> None:
    async with create_client(redis_url) as client:
        client.connection_pool.max_connections = 1
        client.connection_pool.timeout = 0.1  # type: ignore[attr-defined]
        client.connection_pool.reset()
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("news")

            async def one_more() -> None:
                with redis_errors():
                    await client.ping()

            said = await sentence(one_more())
    place = where_of(redis_url)
    assert said == f"Redis is unavailable (all 1 connections of this process are in use at {place})."


# NATS


async def greet(url: str, act: Callable[[NatsConnection], Awaitable[object]] | None = None) -> None:
    connection = NatsConnection()
    try:
        await connection.connect(url, name="test", within=2)
        if act is not None:
            with nats_errors():
                await act(connection)
    finally:
        await connection.close()


async def about_the_account(connection: NatsConnection) -> None:
    await connection.client.jetstream(timeout=1).account_info()


async def test_jetstream_is_off(tmp_path: Path) -> None:
    async with nats_server(tmp_path, jetstream=None) as server:
        where = where_of(server.url)
        said = await sentence(greet(server.url, about_the_account))
    silent = "JetStream does not answer: it is off, or its cluster has no leader"
    assert said == f"NATS answers at {where}, but {silent}."


async def test_an_account_without_jetstream(tmp_path: Path) -> None:
    users = {"users": [{"user": "bot", "password": SECRET}]}
    async with nats_server(tmp_path, accounts={"PLAIN": users}, authorization=None) as server:
        where = where_of(server.url)
        said = await sentence(greet(f"nats://bot:{SECRET}@{where}", about_the_account))
    assert said == f"NATS answers at {where}, but the user's account has no JetStream."


async def test_a_request_that_its_user_may_not_send(tmp_path: Path) -> None:
    user = {"user": "bot", "password": SECRET, "permissions": {"publish": ["$JS.API.STREAM.>"]}}
    async with nats_server(tmp_path, authorization={"users": [user]}) as server:
        where = where_of(server.url)
        said = await sentence(greet(f"nats://bot:{SECRET}@{where}", about_the_account))
    assert said == (
        f"NATS is unavailable: permission refused at {where} as bot: its user may not publish to "
        "$js.api.info (in small letters; `sandboxctl doctor` says more)."
    )


async def test_a_login_that_is_refused_once_the_bot_runs(tmp_path: Path) -> None:
    async with nats_server(tmp_path, authorization={"user": "bot", "password": SECRET}) as server:
        where = where_of(server.url)
        connection = NatsConnection()
        await connection.connect(f"nats://bot:{SECRET}@{where}", name="test", within=10)
        server.blocks = {"authorization": {"user": "bot", "password": f"{SECRET}-new"}}
        await server.stop()
        await server.start()

        async def told() -> bool:
            return connection.refused is not None

        await eventually(told)

        async def ask_on() -> None:
            with nats_errors():
                await about_the_account(connection)

        said = await sentence(ask_on())
        await connection.close()
    assert said == (
        f"NATS is unavailable: login refused at {where} as bot: the user's name, the password or the token "
        "is wrong or missing."
    )


async def test_nats_that_is_away_or_something_else() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    said = await sentence(greet(f"nats://bot:{SECRET}@{nobody}"))
    assert said == f"NATS is unavailable (connection refused at {nobody})."
    async with answering(b"") as where:
        said = await sentence(greet(f"nats://bot:{SECRET}@{where}"))
        assert said == f"NATS is unavailable (no answer in time at {where})."
    async with answering(b"+PONG\r\n", at_once=True) as where:
        said = await sentence(greet(f"nats://bot:{SECRET}@{where}"))
        assert said == f"NATS is unavailable (what answers there is not NATS at {where})."


async def test_a_connection_of_the_pool_is_usable_after_a_statement_that_took_too_long(
    database_url: str,
) -> None:
    pool = await create_pool(database_url, min_size=1, max_size=1)
    async with connected(pool) as connection:
        first = await connection.fetchval("SELECT pg_backend_pid()")

    async def sleep() -> None:
        async with connected(pool) as connection:
            await connection.execute("SELECT pg_sleep(60)", timeout=0.1)

    await sentence(sleep())
    async with connected(pool) as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == first
    await pool.close()


# Discord


@pytest.mark.parametrize(
    ("status", "kind", "body", "problem"),
    [
        (500, "application/json", '{"message": "500", "code": 0}', "it answered with status 500"),
        (503, "text/html", f"<h1>{SECRET}</h1>", "a proxy before it answered with status 503"),
        (403, "text/html", "<h1>Access denied</h1>", "a proxy before it answered with status 403"),
        (200, "application/json", "{", "its JSON can't be read"),
    ],
)
async def test_discord_answers_with_something_else(status: int, kind: str, body: str, problem: str) -> None:
    answer = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    async with answering(answer.encode()) as where, discord_rest(settings_for(where)) as discord:
        said = await sentence(discord.get("/users/@me"))
    assert said == f"Discord is unavailable ({problem} at {where})."


async def test_discord_refuses_the_token_or_is_away() -> None:
    body = '{"message": "401: Unauthorized", "code": 0}'
    answer = f"HTTP/1.1 401 x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    async with answering(answer.encode()) as where, discord_rest(settings_for(where)) as discord:
        with pytest.raises(TokenRefusedError, match="set DISCORD_TOKEN"):
            await discord.get("/users/@me")
    nobody = f"127.0.0.1:{free_port()}"
    async with discord_rest(settings_for(nobody)) as discord:
        said = await sentence(discord.get("/users/@me"))
    assert said == f"Discord is unavailable (it can't be reached (ClientConnectorError) at {nobody})."


def settings_for(where: str) -> Settings:
    return load_settings(
        _env_file=None,
        discord_token=SECRET,
        discord_api_url=f"http://{where}/api",
        database_url="postgresql://h/d",
        redis_url="redis://h",
        nats_url="nats://h",
    )
