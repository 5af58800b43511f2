"""`sandboxctl` as real processes on the suite's real servers: one database for each module."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from tests.conftest import ROOT, TemplateDatabase, create_database, delete_streams, drop_database, revive
from tests.forked import ForkedProcess, start_forked

ALICE, BOB = "200000000000000001", "200000000000000002"
GUILD, PROTECTED = "100000000000000001", "100000000000000099"
NOBODY_LISTENS = "127.0.0.1:1"

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """Runs `sandboxctl` with its own settings only; what holds for every run is asserted in `ended`.

    `warm` is a command that does what `sandboxctl` does, sooner.
    """

    env: Mapping[str, str]
    home: Path
    warm: Sequence[str]
    secrets: tuple[str, ...] = field(default=())

    def having(self, **env: str | None) -> Shell:
        """The same with some variables changed; None takes one out."""
        merged = {**self.env, **env}
        return replace(self, env={name: value for name, value in merged.items() if value is not None})

    async def __call__(self, *arguments: str, within: float = 60.0) -> Ended:
        return await self.ended(await self.start(*arguments), within=within)

    async def ok(self, *arguments: str) -> Ended:
        """Run it; anything but success fails the test."""
        ended = await self(*arguments)
        assert (ended.code, ended.err) == (0, "")
        return ended

    async def start(
        self, *arguments: str, streams: Mapping[int, int] = MappingProxyType({})
    ) -> ForkedProcess:
        """Start it, with some of its standard streams given."""
        return await start_forked(
            *arguments, environment=self.env, directory=self.home, own_stderr=True, streams=streams
        )

    async def start_interpreter(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start it with what comes before the command line: an interpreter, which loads it."""
        return await self.program(sys.executable, "-m", "sandbox_bot", *arguments)

    async def script(self, text: str, *, program: str = "sh") -> Ended:
        """Run a shell's script in which `sandboxctl` is this one."""
        function = f'sandboxctl() {{ {shlex.join(self.warm)} "$@"; }}\n'
        return await self.ended(await self.program(program, "-c", function + text))

    async def program(self, *command: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command,
            cwd=self.home,
            env=dict(self.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def ended(
        self, process: asyncio.subprocess.Process | ForkedProcess, *, within: float = 60.0
    ) -> Ended:
        try:
            async with asyncio.timeout(within):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        ended = Ended(process.returncode, out.decode(), err.decode())
        self.check(ended.out + ended.err)
        return ended

    def check(self, text: str) -> None:
        """What holds of everything that is ever written to a pipe."""
        assert "Traceback" not in text
        assert "\x1b" not in text
        for secret in self.secrets:
            assert secret not in text


@pytest.fixture(autouse=True)
async def _servers_run(servers: EmbeddedServers) -> None:
    await revive(servers.valkey)
    await revive(servers.nats)


@pytest.fixture(scope="module")
async def shell(
    servers: EmbeddedServers,
    template_db: TemplateDatabase,
    warm_sandboxctl: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Shell]:
    """A shell with a migrated database of the module's own. The other stores hold keys by sandbox id."""
    name = f"cli_{next(_numbers)}"
    await revive(servers.nats)
    # Another file's tests may have left streams that are not the bot's.
    await delete_streams(servers.nats_url)
    url = await create_database(servers, name, template=template_db.name)
    yield _shell(servers, url, tmp_path_factory.mktemp(name), warm_sandboxctl)
    await drop_database(servers, name)


@pytest.fixture
async def fresh_shell(
    servers: EmbeddedServers, empty_database_url: str, warm_sandboxctl: list[str], tmp_path: Path
) -> Shell:
    """A shell whose database has nothing in it."""
    return _shell(servers, empty_database_url, tmp_path, warm_sandboxctl)


def _shell(servers: EmbeddedServers, database_url: str, home: Path, warm: Sequence[str]) -> Shell:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database_url,
        # Neighbouring tests use other numbers; every key of a sandbox has its id.
        "REDIS_URL": urlunsplit(urlsplit(servers.redis_url)._replace(path="/63")),
        "NATS_URL": servers.nats_url,
        "SANDBOX_ISOLATION": "convention",
        "DISCORD_PROTECTED_GUILD_IDS": PROTECTED,
    }
    password = urlsplit(database_url).password
    assert password
    return Shell(env, home, warm, (password,))


@pytest.fixture
async def database(shell: Shell) -> AsyncIterator[asyncpg.Connection]:
    """The module's database, to look at and to change behind the command line's back."""
    connection = await asyncpg.connect(shell.env["DATABASE_URL"])
    yield connection
    await connection.close()
