"""The real servers of the suite: started once, and clean for every test that asks for one.

A test names what it needs: `database_url`, `redis_url`, `nats_url`. Tests of outages take `servers` too, and
may stop, kill and restart a server: the next test finds it running again, on the same port.
"""

from __future__ import annotations

import asyncio.selector_events
import functools
import gc
import inspect
import itertools
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import nats
import pytest
import redis.utils
import structlog
from hypothesis import settings
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServer, EmbeddedServers, embedded_servers
from sandbox_bot.migrate import migrate
from sandbox_core.plain_tracebacks import show_plain_tracebacks
from sandbox_core.postgres.errors import DRIVER_ERRORS
from tests.embedded.prepared import put_cluster
from tests.forked import ASK, use_server_at, warm_endpoint

ROOT = Path(__file__).resolve().parents[1]

_LONG_FILES = {
    "chaos",
    "cli",
    "deploy",
    "docs",
    "e2e",
    "gateway",
    "isolation",
    "packaging",
    "publishers",
    "tenant_nats",
}
_LONG_FILES_UNTIL = 0.75

# The product's limits for one answer of a server, in seconds, and what a test has instead.
_LIMITS = {
    "sandbox_core.clients._JETSTREAM_TIMEOUT": 30.0,
    "sandbox_core.context._context._JETSTREAM_TIMEOUT": 30.0,
    "sandbox_core.manager.teardown.STEP_TIMEOUT": 30.0,
    "sandbox_core.postgres.kept_connection.CONNECT_TIMEOUT": 20.0,
    "sandbox_core.postgres.pool.COMMAND_TIMEOUT": 20.0,
    "sandbox_core.postgres.pool.CONNECT_TIMEOUT": 20.0,
    "sandbox_core.redis.client.TIMEOUT": 20.0,
}

_numbers = itertools.count(1)
_administrators: dict[str, asyncpg.Connection] = {}
# Database 0 is left to tests that look at the server itself, and those from 61 on to tests that name theirs;
# see `redis_url`.
_redis_databases = itertools.cycle(range(1, 61))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Of the process that starts the workers: they share a server of forks; see `tests/forked.py`."""
    node.workerinput["warm_endpoint"] = str(warm_endpoint())


def pytest_configure(config: pytest.Config) -> None:
    """Put temporary directories into memory where there is room, and let programs hear Ctrl-C.

    Hundreds of databases are made and dropped; on a disk that takes three times as long. A variable that is
    already set wins. A run that a shell put into the background ignores SIGINT, and so would every program
    that a test starts and stops.
    """
    # As in the product's own processes.
    show_plain_tracebacks()
    # Clients that only tests use share their loop with the product, whose own never call the one that is
    # spoilt; see `sandbox_core.stream_writes`.
    transport = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    transport.writelines = asyncio.WriteTransport.writelines
    # Redis' client reads its own version from the disk for each connection, a third of what that takes.
    redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)
    # How long an example takes says more about the machine than about the code.
    settings.register_profile("no-deadline", deadline=None)
    settings.load_profile("no-deadline")
    if (told := getattr(config, "workerinput", None)) is not None:
        use_server_at(Path(told["warm_endpoint"]))
    # Most tests have one server of each kind, and another subject. Those of isolation, of the embedded
    # servers, of the tour, of the documents and of the compose file set `enforced`, or take the default.
    os.environ["SANDBOX_ISOLATION"] = "convention"
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    memory = Path("/dev/shm")  # noqa: S108 (pytest makes a private directory in it)
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 1024**3:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread each directory's files over the whole run.

    Some directories' tests wait for other processes most of the time, others' compute: side by side in the
    workers they take turns with the cores. None of those that take long is left to the end, where the other
    workers would have nothing more to do.
    """
    files: dict[Path, dict[Path, None]] = {}
    for item in items:
        files.setdefault(item.path.parent, {})[item.path] = None
    places = {
        path: (number + 0.5) / len(siblings) * (_LONG_FILES_UNTIL if directory.name in _LONG_FILES else 1.0)
        for directory, siblings in files.items()
        for number, path in enumerate(siblings)
    }
    items.sort(key=lambda item: places[item.path])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show why what passed at the second try (see `.ci/run`) did not at the first."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.write_sep("_", f"first try of {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


def pytest_collection_finish() -> None:
    """Have the collector of garbage look no more at what all tests need: it does so thousands of times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Some of what is tested configures the process's logging; the next test captures it as it was."""
    configured = structlog.get_config()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.configure(**configured)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _patience(request: pytest.FixtureRequest) -> Iterator[None]:
    """A machine that stands still for seconds is no fault of a server, except where faults are the subject.

    Tests that take `servers` or `impatient` keep the product's limits.
    """
    keeps = "impatient" in request.fixturenames or "servers" in inspect.signature(request.function).parameters
    with pytest.MonkeyPatch.context() as patch:
        if not keeps:
            for limit, seconds in _LIMITS.items():
                patch.setattr(limit, seconds)
        yield


@pytest.fixture
def impatient() -> None:
    """For tests of a server that does not answer: the product's limits hold."""


@pytest.fixture(scope="session")
def warm_sandboxctl() -> list[str]:
    """A command that is `sandboxctl`, without the second that its imports take; see `tests/ask_warm.py`."""
    return [sys.executable, "-S", "-E", str(ASK), str(warm_endpoint())]


@dataclass(frozen=True)
class TemplateDatabase:
    """A migrated database that is never used, only cloned."""

    name: str


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServers]:
    """PostgreSQL, Valkey and nats-server, one set for the whole session."""
    directory = tmp_path_factory.mktemp("servers")
    await put_cluster(directory, tmp_path_factory)
    async with embedded_servers(directory, fast=True) as running:
        yield running
        for connection in _administrators.values():
            await connection.close()


@pytest.fixture(scope="session")
async def template_db(servers: EmbeddedServers) -> TemplateDatabase:
    """The database that `database_url` clones: migrated once."""
    url = await create_database(servers, "template_migrated")
    await migrate(url)
    return TemplateDatabase("template_migrated")


@pytest.fixture
async def database_url(servers: EmbeddedServers, template_db: TemplateDatabase) -> AsyncIterator[str]:
    """A migrated database of the test's own; the role in the address owns it and is no superuser."""
    name = f"test_{next(_numbers)}"
    yield await create_database(servers, name, template=template_db.name)
    await drop_database(servers, name)


@pytest.fixture
async def empty_database_url(servers: EmbeddedServers) -> AsyncIterator[str]:
    """A database of the test's own without anything in it."""
    name = f"test_{next(_numbers)}"
    yield await create_database(servers, name)
    await drop_database(servers, name)


@pytest.fixture
async def redis_url(servers: EmbeddedServers) -> str:
    """An empty numbered database.

    Neighbouring tests get different ones: a client that a test has left behind writes into its own database,
    not into the next test's. Published messages and SCRIPT are the server's, shared by all databases.
    """
    await revive(servers.valkey)
    url = urlunsplit(urlsplit(servers.redis_url)._replace(path=f"/{next(_redis_databases)}"))
    async with Redis.from_url(url) as client:
        await client.flushdb()
    return url


@pytest.fixture
async def nats_url(servers: EmbeddedServers) -> str:
    """The session's nats-server with no stream on it."""
    await revive(servers.nats)
    await delete_streams(servers.nats_url)
    return servers.nats_url


@pytest.fixture
async def reloaded(servers: EmbeddedServers) -> AsyncIterator[None]:
    """For tests that change the nats-server's configuration: the next one finds it as it was.

    A reload would take effect in the middle of the next test.
    """
    yield
    await servers.nats.restart()


async def delete_streams(nats_url: str) -> None:
    """Leave no stream on a nats-server."""
    client = await nats.connect(nats_url)
    try:
        manager = client.jetstream()
        while streams := await manager.streams_info():
            for stream in streams:
                await manager.delete_stream(str(stream.config.name))
    finally:
        await client.close()


async def create_database(servers: EmbeddedServers, name: str, *, template: str = "template0") -> str:
    """Make a database that the bot's role owns; returns its address."""
    await revive(servers.postgres)
    role = urlsplit(servers.database_url).username
    # Copied as files, which takes a third of the time, as nothing has to wait for the disk (`fast`).
    await _administer(
        servers, f'CREATE DATABASE "{name}" OWNER "{role}" TEMPLATE "{template}" STRATEGY file_copy'
    )
    return urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{name}"))


async def close_databases(servers: EmbeddedServers) -> None:
    """Let nobody into the present databases by default: a sandbox's role on this server would be, too."""
    await _administer(
        servers,
        "DO $$DECLARE name text; BEGIN FOR name IN SELECT datname FROM pg_database LOOP "
        "EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', name); END LOOP; END$$",
    )


async def drop_database(servers: EmbeddedServers, name: str) -> None:
    """Drop a database, cutting off whoever is still connected to it."""
    await revive(servers.postgres)
    await _administer(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _administer(servers: EmbeddedServers, statement: str) -> None:
    """Execute it in a connection that is kept: opening one costs more than a small statement does."""
    url = servers.postgres.admin_url
    while True:
        kept = _administrators.get(url)
        connection = kept if kept is not None and not kept.is_closed() else await asyncpg.connect(url)
        _administrators[url] = connection
        try:
            await connection.execute(statement)
        except DRIVER_ERRORS:
            # A test has restarted the server since. A new connection's failure is the server's.
            if connection is not kept:
                raise
            connection.terminate()
        else:
            return


async def revive(server: EmbeddedServer) -> None:
    """Start a server that an earlier test has stopped or killed."""
    if not server.running:
        await server.start()
