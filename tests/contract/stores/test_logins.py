"""Logins at real servers: odd passwords get in everywhere; a refusal says who, where and what to check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.migrate import migrate
from sandbox_core.addresses import PostgresAddress
from sandbox_core.context import SandboxContext
from sandbox_core.errors import DependencyUnavailable, LoginRefused
from sandbox_core.postgres import connected, create_pool
from sandbox_core.redis.client import create_client
from sandbox_core.redis.confined import create_confined_client
from sandbox_core.redis.errors import translating as redis_errors
from tests.e2e.harness import eventually
from tests.e2e.programs import program

from .logins import ODD, assert_hidden, said, wrong_of


@pytest.fixture
async def role(servers: EmbeddedServers, database_url: str) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Gives the bot's role another password for the test; the result is the password, encoded."""
    name, before = urlsplit(database_url).username, urlsplit(database_url).password

    async def alter(password: str) -> None:
        connection = await asyncpg.connect(servers.postgres.admin_url)
        literal = password.replace("'", "''")
        await connection.execute(f"ALTER ROLE \"{name}\" PASSWORD '{literal}'")
        await connection.close()

    async def give(password: str) -> str:
        await alter(password)
        return quote(password, safe="")

    yield give
    await alter(str(before))


async def test_postgres_takes_odd_passwords_and_says_whose_login_it_refused(
    database_url: str, role: Callable[[str], Awaitable[str]]
) -> None:
    url = urlsplit(database_url)
    for password in ODD:
        encoded = await role(password)
        right = f"postgresql://{url.username}:{encoded}@{url.hostname}:{url.port}{url.path}"
        async with await create_pool(right) as pool, connected(pool) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        await migrate(right)
        wrong = right.replace(encoded, quote(wrong_of(password), safe=""))
        for attempt in (create_pool(wrong), migrate(wrong)):
            with pytest.raises(LoginRefused) as refused:
                await attempt  # type: ignore[misc]
            assert refused.value.reason == (
                f"login refused at {url.hostname}:{url.port} as {url.username}: the password is wrong, or "
                "there is no such role; check DATABASE_URL"
            )
            assert_hidden(said(refused.value), password)
    raw = f"postgresql://{url.username}:p@ss@{url.hostname}:{url.port}{url.path}"
    await role("p@ss")
    await migrate(raw)
    await (await create_pool(raw)).close()


async def test_postgres_other_refusals_are_named(
    database_url: str, servers: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = urlsplit(database_url)
    address = PostgresAddress.parse(database_url)
    for text, problem in (
        (f"{database_url}?sslmode=require", "sslmode asks for TLS, and the server has none"),
        (f"{database_url}?sslmode=verify-full&sslrootcert=/nonexistent", "a file for TLS can't be read"),
        (database_url.replace(url.path, "/nowhere"), "there is no such database"),
        (
            f"postgresql://{url.username}@{url.hostname}:{url.port}{url.path}",
            "the server asks for a password",
        ),
    ):
        with pytest.raises(LoginRefused) as refused:
            await create_pool(text)
        assert refused.value.problem.startswith(problem), text
        assert (refused.value.where, refused.value.user) == (address.where, url.username)
    # libpq's own variable fills what the address leaves out, for the bot and for dbmate.
    monkeypatch.setenv("PGPASSWORD", str(url.password))
    short = f"postgresql://{url.username}@{url.hostname}:{url.port}{url.path}"
    await (await create_pool(short)).close()
    await migrate(short)


@pytest.fixture
async def valkey(servers: EmbeddedServers, redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client
        await client.execute_command("ACL", "DELUSER", "odd", "narrow")


async def test_redis_takes_odd_passwords_and_says_whose_login_it_refused(
    valkey: Redis, redis_url: str
) -> None:
    url = urlsplit(redis_url)
    where = f"{url.hostname}:{url.port}"
    for password in ODD:
        await valkey.execute_command(
            "ACL", "SETUSER", "odd", "reset", "on", f">{password}", "~*", "&*", "+@all"
        )
        right = f"redis://odd:{quote(password, safe='')}@{where}{url.path}"
        async with create_client(right) as client:
            assert await client.ping()
        async with create_confined_client(right, "sandbox:x:", client_name="worker") as confined:
            await confined.set("key", "value")
            async with confined.pubsub() as pubsub:
                await pubsub.subscribe("news")
                assert (await pubsub.get_message(timeout=5)) is not None
        async with create_client(
            f"redis://odd:{quote(wrong_of(password), safe='')}@{where}{url.path}"
        ) as client:
            with pytest.raises(LoginRefused) as refused, redis_errors():
                await client.ping()
            assert refused.value.reason == (
                f"login refused at {where} as odd: the user's name or the password is wrong; check REDIS_URL"
            )
            assert_hidden(said(refused.value) + repr(client), password)


async def test_redis_other_refusals_are_named(valkey: Redis, redis_url: str) -> None:
    url = urlsplit(redis_url)
    where = f"{url.hostname}:{url.port}"
    everything_needed = ("+client", "+hello", "+select", "+info")
    await valkey.execute_command("ACL", "SETUSER", "narrow", "reset", "on", ">pw", *everything_needed)
    await valkey.execute_command("ACL", "SETUSER", "default", "on", "resetpass", ">needed", "~*", "+@all")
    try:
        for text, user, problem in (
            (f"redis://narrow:pw@{where}{url.path}", "narrow", "its user may not do this"),
            (f"redis://{where}{url.path}", "default", "the server asks for a password, and none is given"),
            (f"redis://:needed@{where}/999", "default", "there is no database of that number"),
        ):
            async with create_client(text) as client:
                with pytest.raises(LoginRefused) as refused, redis_errors():
                    await client.ping()
            assert (refused.value.user, refused.value.problem) == (user, problem)
    finally:
        await valkey.execute_command("ACL", "SETUSER", "default", "reset")


async def test_postgres_that_lets_nobody_in_from_here(servers: EmbeddedServers, database_url: str) -> None:
    """Its pg_hba.conf says so."""
    url = urlsplit(database_url)
    rules = servers.postgres.data_dir / "data" / "pg_hba.conf"
    before = rules.read_text()
    admin = await asyncpg.connect(servers.postgres.admin_url)

    async def is_let_in() -> bool:
        return not await _is_refused(database_url)

    try:
        # One that refuses, and then none that fits.
        for line in (f"host {url.path[1:]} all all reject\n{before}", "host postgres postgres all trust\n"):
            rules.write_text(line)
            await admin.fetchval("SELECT pg_reload_conf()")
            await eventually(lambda: _is_refused(database_url))
            with pytest.raises(LoginRefused) as refused:
                await create_pool(database_url)
            assert refused.value.problem.startswith("pg_hba.conf does not let it in")
            assert refused.value.where == f"{url.hostname}:{url.port}"
            rules.write_text(before)
            await admin.fetchval("SELECT pg_reload_conf()")
            await eventually(is_let_in)
    finally:
        rules.write_text(before)
        await admin.fetchval("SELECT pg_reload_conf()")
        await admin.close()


async def test_a_login_that_is_cut_off_names_the_place() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for options in ("sslmode=disable", "sslmode=prefer"):
            with pytest.raises(DependencyUnavailable) as away:
                await create_pool(f"postgresql://bot@{where}/d?{options}")
            assert away.value.reason == f"the connection was lost at {where}"


async def _is_refused(database_url: str) -> bool:
    try:
        await (await asyncpg.connect(database_url)).close()
    except asyncpg.InvalidAuthorizationSpecificationError:
        return True
    return False


async def test_a_worker_and_the_command_line_say_it_too(
    database_url: str, redis_url: str, nats_url: str, tmp_path: Path
) -> None:
    url = urlsplit(database_url)
    wrong = f"postgresql://{url.username}:Qz7Wx@{url.hostname}:{url.port}{url.path}"
    environment = {"DATABASE_URL": wrong, "REDIS_URL": redis_url, "NATS_URL": nats_url}
    with pytest.raises(DependencyUnavailable, match="login refused at") as refused:
        async with SandboxContext.from_env(environment):
            pass
    assert_hidden(said(refused.value), "")
    for command in ("migrate", "doctor", "list"):
        async with program("sandbox_bot", command, directory=tmp_path, **environment) as running:
            assert await running.exit_code() == 3
        words = " ".join((running.errors + running.output).replace("│", " ").split())
        # What `doctor` says stands beside the place.
        refused_there = "it refused the login as" if command == "doctor" else "login refused at"
        assert refused_there in words, (command, words)
        assert f"{url.hostname}:{url.port}" in words
        assert "DATABASE_URL" in words
        assert "Qz7" not in words
        assert "Traceback" not in words


@pytest.fixture(autouse=True)
def _no_password_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
