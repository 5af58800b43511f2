"""What other users of the machine can see of our processes, their command lines, has no secret in it."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from discord_sim import DiscordSim
from sandbox_bot.embedded._programs import postgres_programs
from tests.docs.markdown import blocks, name_of, pages
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import program
from tests.embedded.processes import descendants, told_of

from .conftest import ALICE, Shell

REDIS_SECRET, NATS_SECRET, TOKEN = "redis-Qz7Wx", "nats-Qz7Wx", "token-Qz7Wx"
# Whatever its name is: an address with a password, or an option or a variable of such a name with a value.
_SECRET = re.compile(
    r"://[^/@\s]*:[^/@\s]+@"
    r"|(?:pass(?:word)?|token|secret|apikey|creds)[\w-]*[= ](?!-)\S",
    re.IGNORECASE,
)


class Seen:
    """Every command line of the processes below some others, as often as it can look."""

    def __init__(self) -> None:
        self.lines: dict[int, set[str]] = {}
        self.roots: set[int] = set()
        self._over = threading.Event()

    def look(self) -> None:
        """Until it is over. A process has another command line before it becomes a program."""
        while not self._over.wait(0.002):
            for root in set(self.roots):
                for pid in {root} | descendants(root):
                    if line := told_of(pid, "cmdline").replace("\0", " ").strip():
                        self.lines.setdefault(pid, set()).add(line)

    def end(self) -> None:
        self._over.set()

    @property
    def all(self) -> set[str]:
        return set().union(*self.lines.values())

    def has(self, *words: str) -> bool:
        """True when a command line with all of these words was seen."""
        return any(all(word in line for word in words) for line in list(self.all))

    def check(self, secrets: Iterable[str]) -> None:
        """Fail for each command line with one of these secrets, or with anything that looks like one."""
        for line in self.all:
            assert not any(secret in line for secret in secrets), line
            assert _SECRET.search(line.replace("password_encryption=", "")) is None, line


@contextmanager
def watching(*roots: int) -> Iterator[Seen]:
    seen = Seen()
    seen.roots.update(roots)
    thread = threading.Thread(target=seen.look)
    thread.start()
    try:
        yield seen
    finally:
        seen.end()
        thread.join()


def test_what_counts_as_a_secret() -> None:
    for line in (
        "x redis://:pw@h",
        "dbmate --url postgres://u:p@h/d",
        "valkey --requirepass pw",
        "x --token t",
    ):
        assert _SECRET.search(line), line
    for line in ("x --pwfile=/a/b", "psql -c SELECT", "nats-server --config /a/nats.conf", "postgres -D /a"):
        assert _SECRET.search(line) is None, line


@pytest.fixture(scope="module")
async def secretive(shell: Shell) -> AsyncIterator[Shell]:
    """A shell in which every address has a password; a NATS that asks for none takes any."""
    redis, nats = urlsplit(shell.env["REDIS_URL"]), urlsplit(shell.env["NATS_URL"])
    admin = Redis.from_url(shell.env["REDIS_URL"])
    await admin.execute_command("ACL SETUSER", "secretive", "on", f">{REDIS_SECRET}", "~*", "&*", "+@all")
    psql = shutil.which("psql") or str(postgres_programs() / "psql")
    yield shell.having(
        REDIS_URL=f"redis://secretive:{REDIS_SECRET}@{redis.hostname}:{redis.port}{redis.path}",
        NATS_URL=f"nats://bot:{NATS_SECRET}@{nats.netloc}",
        DISCORD_TOKEN=TOKEN,
        PATH=f"{Path(psql).parent}:{shell.env['PATH']}",
    )
    await admin.execute_command("ACL DELUSER", "secretive")
    await admin.aclose()


@pytest.fixture(scope="module")
async def box(secretive: Shell) -> AsyncIterator[str]:
    await secretive.ok("create", "seen", "--owner", ALICE)
    yield "seen"
    await secretive.ok("destroy", "seen", "--yes")


@asynccontextmanager
async def locked(shell: Shell, table: str) -> AsyncIterator[None]:
    """Whoever needs the table waits meanwhile, and can be looked at."""
    connection = await asyncpg.connect(shell.env["DATABASE_URL"])
    async with connection.transaction():
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
    await connection.close()


@pytest.mark.parametrize(
    ("words", "becomes", "waits_for"),
    [
        (("migrate",), "--migrations-table", "sandbox_schema_migrations"),
        (("psql", "--", "-c", "SELECT pg_sleep(60)"), "pg_sleep", ""),
        (("psql", "--sandbox", "seen", "--", "-c", "SELECT pg_sleep(60)"), "pg_sleep", ""),
        (("psql", "--program", "pg_dump"), "pg_dump", "sandboxes"),
        (("exec", "seen", "--", "sleep", "60"), "sleep 60", ""),
        (("doctor",), "doctor", "sandboxes"),
        (("list",), "list", "sandboxes"),
    ],
)
async def test_a_command_and_what_it_becomes_or_starts(
    secretive: Shell, box: str, words: tuple[str, ...], becomes: str, waits_for: str
) -> None:
    password = urlsplit(secretive.env["DATABASE_URL"]).password
    assert password
    async with locked(secretive, waits_for) if waits_for else contextlib.nullcontext():
        process = await secretive.start_interpreter(*words)
        with watching(process.pid) as seen:
            await eventually(lambda: seen.has(becomes) or process.returncode is not None)
        assert process.returncode is None, await process.communicate()
        for pid in descendants(process.pid) | {process.pid}:
            # Only its own user can read this: the place for a secret.
            assert Path(f"/proc/{pid}/environ").stat().st_mode & 0o077 == 0
        process.kill()
        await process.communicate()
    assert seen.has(becomes)
    seen.check({password, REDIS_SECRET, NATS_SECRET, TOKEN})


async def test_the_bot_with_its_servers(tmp_path: Path) -> None:
    async with DiscordSim() as sim:
        dev, port = sim.add_guild("dev"), free_port()
        environment = {
            "DISCORD_TOKEN": sim.token,
            "DISCORD_API_URL": sim.api_url,
            "DISCORD_DEV_GUILD_IDS": str(dev.id),
            "OPS_PORT": str(port),
        }
        data = tmp_path / "data"
        arguments = ("run", "--embedded", "--data-dir", str(data))
        async with program("sandbox_bot", *arguments, directory=tmp_path, **environment) as bot:
            with watching(bot.pid) as seen:

                async def ready() -> bool:
                    assert bot.running, bot.errors
                    return (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200

                await eventually(ready)
            passwords = re.findall(r'": "([^"]+)"', (data / "postgres" / "passwords.json").read_text())
            assert len(passwords) == 2
            secrets = {sim.token, *passwords}
            servers = [pid for pid in descendants(bot.pid) if is_server(pid)]
            assert len(servers) >= 3
            for pid in servers:
                environ = told_of(pid, "environ")
                assert not any(secret in environ for secret in secrets)
            bot.look_at_family()
    check_servers(seen)
    seen.check(secrets)


async def test_the_tour_with_its_servers(tmp_path: Path) -> None:
    async with program("sandbox_bot", "tour", directory=tmp_path, TMPDIR=str(tmp_path)) as tour:
        with watching(tour.pid) as seen:
            assert await tour.exit_code(within=120) == 0, tour.errors
    check_servers(seen)
    # The simulator's, which the tour's bot logs in with.
    async with DiscordSim() as sim:
        seen.check({sim.token})


def check_servers(seen: Seen) -> None:
    """The servers were among what was seen."""
    for words in (("_guard.py",), ("initdb", "--pwfile"), ("postgres", "-D"), ("valkey",), ("nats-server",)):
        assert seen.has(*words), words


def is_server(pid: int) -> bool:
    """True for a process of one of the three servers."""
    name = told_of(pid, "cmdline").split("\0")[0]
    return any(server in name for server in ("postgres", "valkey", "nats-server"))


def test_no_document_puts_an_address_or_a_token_on_a_command_line() -> None:
    argument = re.compile(r"(?<![=\w])\"?\$\{?(?:\w*_URL|DISCORD_TOKEN|\w*PASSWORD)\b")
    for page in pages():
        for block in blocks(page):
            if block.language in {"sh", "console"}:
                for line in block.text.splitlines():
                    assert argument.search(line) is None, f"{name_of(page)}: {line}"
