"""The place where the documents' commands are run: servers, a Discord with people in it, the bot, a shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from discord_sim import DiscordSim, SimGuild, SimUser
from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.embedded._programs import postgres_programs
from sandbox_bot.tour.stage import default_settings
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.errors import SandboxNotFound
from sandbox_core.models import Actor, GuildAccess, Sandbox
from tests.conftest import TemplateDatabase, close_databases, create_database, delete_streams, drop_database
from tests.docs.markdown import ROOT
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import Program, program

# Those that the documents name.
DEVELOPER = "268473310986240001"
GUILD, OTHER_GUILD = "613425648685547541", "613425648685547542"
OPS, NEXT_OPS_PORT, ENDPOINT = "127.0.0.1:9464", "9465", "127.0.0.1:9470"
_SUCCESSOR = "run.pid"
_REDIS_DATABASE = "/62"
_WITHIN = 60.0


@dataclass
class Place:
    """Everything the commands of a page touch."""

    sim: DiscordSim
    alice: SimUser
    dev: SimGuild
    core: Core
    environment: dict[str, str]
    directory: Path
    port: int
    next_port: int
    """Instead of the port on which the documents start a second bot."""
    superuser: str
    """The address of the sandboxes' database for PostgreSQL's superuser."""
    identifies: int = 0
    """How many sessions had been begun when a drill began."""
    endpoint_port: int = field(default_factory=free_port)
    bot: Program | None = None
    ends: list[contextlib.AsyncExitStack] = field(default_factory=list)

    async def start_bot(self) -> None:
        """`sandboxctl run`, ready; nothing when it runs."""
        if self.bot is not None and self.bot.running:
            return
        stack = contextlib.AsyncExitStack()
        self.ends.append(stack)
        environment = {key: value for key, value in self.environment.items() if key != "PATH"}
        running = program(
            "sandbox_bot", "run", directory=self.directory, **{**environment, "OPS_PORT": str(self.port)}
        )
        self.bot = await stack.enter_async_context(running)

        async def at_work() -> bool:
            assert self.bot is not None
            assert self.bot.running, self.bot.errors
            url = f"http://127.0.0.1:{self.port}"
            # Gauges are set by the first turn of the upkeep.
            return (await get(url, "/readyz"))[0] == 200 and (
                re.search(r"^sandbox_active_count", (await get(url, "/metrics"))[1], re.MULTILINE) is not None
            )

        await eventually(at_work)
        self.environment["BOT_PID"] = str(self.bot.pid)

    async def start_endpoint(self) -> None:
        """`sandboxctl gateway`, ready."""
        stack = contextlib.AsyncExitStack()
        self.ends.append(stack)
        environment = {key: value for key, value in self.environment.items() if key != "PATH"}
        environment["SANDBOX_GATEWAY_PORT"] = str(self.endpoint_port)
        running = program("sandbox_bot", "gateway", directory=self.directory, **environment)
        endpoint = await stack.enter_async_context(running)

        async def at_work() -> bool:
            assert endpoint.running, endpoint.errors
            return (await get(f"http://127.0.0.1:{self.endpoint_port}", "/readyz"))[0] == 200

        await eventually(at_work)

    async def end_endpoint(self) -> None:
        """End it."""
        await self.ends.pop().aclose()

    async def shell(self, script: str) -> str:
        """Run a script and return what it printed; a command in it that fails, fails the test."""
        local = script.replace(OPS, f"127.0.0.1:{self.port}").replace(NEXT_OPS_PORT, str(self.next_port))
        local = local.replace(ENDPOINT, f"127.0.0.1:{self.endpoint_port}")
        process = await asyncio.create_subprocess_exec(
            # With something after the last command bash stays its parent, as a person's shell does.
            *("bash", "-euo", "pipefail", "-c", f"{local}\n:"),
            cwd=self.directory,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_WITHIN):
                printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        output = printed.decode()
        assert process.returncode == 0, f"{script}\nends with {process.returncode}:\n{output}"
        assert "Traceback" not in output, output
        return output

    async def slash(self, line: str) -> str:
        """Alice types a slash command in the dev server; the answer's text."""
        words = shlex.split(line.removeprefix("/"))
        path = " ".join(word for word in words if ":" not in word)
        options = dict(word.split(":", 1) for word in words if ":" in word)
        result = await self.sim.slash(self.alice, self.dev.default_channel, path, timeout=60, values=options)
        if any(button["label"] == "Register it" for button in result.buttons):
            # The bot has not watched this server for long; the guide says what to press then.
            result = await self.sim.click(result, self.alice, label="Register it")
            await result.wait_until(lambda r: "Server registered" in r.text, timeout=60)
        assert re.search(r"SANDBOX_0\d\d", result.text) is None, f"{line}: {result.text}"
        return result.text

    @property
    def operator(self) -> Actor:
        """Who may do everything."""
        return Actor(DEVELOPER, is_bot_owner=True)

    async def sandbox(self, name: str, *guild_ids: str, owner: str = DEVELOPER) -> Sandbox:
        """A running sandbox of this name with these servers, made unless it is there."""
        actor = Actor(owner, is_bot_owner=True)
        try:
            sandbox = await self.core.manager.get(name)
        except SandboxNotFound:
            sandbox = (await self.core.manager.create(actor, name=name)).sandbox
        for guild_id in guild_ids:
            access = GuildAccess(guild_id, bot_is_member=True, caller_manages=True)
            sandbox = (await self.core.manager.register_guild(actor, str(sandbox.id), access)).sandbox
        return sandbox

    async def end_successor(self) -> None:
        """End the bot that a page's commands have started in the background; nothing when there is none."""
        if not self._successor.exists():
            return
        pid = int(self._successor.read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        await eventually(lambda: not _runs(pid))
        self._successor.unlink()

    @property
    def _successor(self) -> Path:
        return self.directory / _SUCCESSOR

    @property
    def database_and_role(self) -> str:
        """`DATABASE ... TO ...`, for a GRANT."""
        url = urlsplit(self.environment["DATABASE_URL"])
        return f'DATABASE "{url.path[1:]}" TO "{url.username}"'

    async def execute(self, statement: str, *arguments: object) -> None:
        """Change the bot's database behind everybody's back."""
        await _execute(self.environment["DATABASE_URL"], statement, *arguments)

    async def execute_as_superuser(self, statement: str, *arguments: object) -> None:
        """Change the sandboxes' database."""
        await _execute(self.superuser, statement, *arguments)


async def _execute(address: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(address)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
async def place(
    servers: EmbeddedServers,
    template_db: TemplateDatabase,
    warm_sandboxctl: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Place]:
    """One place for all pages: Alice, who manages the servers, and a running bot."""
    directory = tmp_path_factory.mktemp("docs")
    database_url = await create_database(servers, "docs", template=template_db.name)
    await close_databases(servers)
    redis_url = urlunsplit(urlsplit(servers.redis_url)._replace(path=_REDIS_DATABASE))
    async with Redis.from_url(redis_url) as client:
        await client.flushdb()
    await delete_streams(servers.nats_url)
    (directory / "worker.py").write_text("import os\nprint(os.environ['SANDBOX_NAME'])\n")
    # The reader's own bots; tests/compat has real ones.
    (directory / "mybot.py").write_text("import os\nassert '.sbx-' in os.environ['DISCORD_TOKEN']\n")
    async with contextlib.AsyncExitStack() as stack:
        sim = await stack.enter_async_context(DiscordSim())
        alice = sim.add_user("alice", id=int(DEVELOPER))
        dev = sim.add_guild("Bot workshop", owner=alice)
        for guild_id, name in ((GUILD, "Test kitchen"), (OTHER_GUILD, "Login test server")):
            sim.add_guild(name, id=int(guild_id), owner=alice)
        environment = {
            "PATH": os.pathsep.join((str(directory / "bin"), str(postgres_programs()), os.environ["PATH"])),
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "NATS_URL": servers.nats_url,
            **{name.upper(): value for name, value in servers.tenant_settings.items()},
            "DISCORD_TOKEN": sim.token,
            "DISCORD_API_URL": sim.api_url,
            "DISCORD_DEV_GUILD_IDS": str(dev.id),
        }
        _write_programs(directory, warm_sandboxctl)
        settings = default_settings(
            database_url=database_url,
            redis_url=redis_url,
            nats_url=servers.nats_url,
            **servers.tenant_settings,
        )
        core = await stack.enter_async_context(
            open_core(settings, follow_routes=False, use_nats=NatsUse.SANDBOXES)
        )
        superuser = urlunsplit(urlsplit(servers.postgres.admin_url)._replace(path="/tenants"))
        made = Place(sim, alice, dev, core, environment, directory, free_port(), free_port(), superuser)
        try:
            await made.start_bot()
            yield made
            # Their accounts of NATS are empty for the next page's sandboxes.
            for sandbox in await core.manager.list(include_destroyed=False):
                await core.manager.destroy(made.operator, str(sandbox.id))
        finally:
            for end in reversed(made.ends):
                await end.aclose()
            await made.end_successor()
    await drop_database(servers, "docs")


def _write_programs(directory: Path, sandboxctl: list[str]) -> None:
    """`sandboxctl` and `python` as a person's PATH would have them."""
    programs = {"sandboxctl": sandboxctl, "python": [sys.executable]}
    (directory / "bin").mkdir()
    # A bot that runs in the background is a process of its own, which signals reach.
    bot = shlex.join([sys.executable, "-m", "sandbox_bot"])
    # Not every machine has Node.
    node = directory / "bin" / "node"
    node.write_text('#!/bin/sh\ntest "$1" = index.js && case "$BOT_TOKEN" in *.sbx-*) ;; *) exit 1;; esac\n')
    node.chmod(0o755)
    note = shlex.quote(str(directory / _SUCCESSOR))
    # And installing completion looks for the shell among its own parents.
    itself = (
        f'if [ "$1" = run ]; then echo $$ > {note}; exec {bot} "$@"; fi\n'
        f'if [ "$1" = --install-completion ]; then exec {bot} "$@"; fi\n'
    )
    for name, command in programs.items():
        script = directory / "bin" / name
        before = itself if name == "sandboxctl" else ""
        script.write_text(f'#!/bin/sh\n{before}exec {shlex.join(command)} "$@"\n')
        script.chmod(0o755)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
