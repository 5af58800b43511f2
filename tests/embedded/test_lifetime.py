"""The servers end when their owner does, however it ends, and what they wrote is there at the next start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest
from redis.asyncio import Redis

from sandbox_bot.embedded import (
    DataDirectoryInUse,
    EmbeddedServerError,
    EmbeddedServers,
    ValkeyServer,
    _guard,
    embedded_servers,
)
from tests.embedded.prepared import put_cluster
from tests.embedded.processes import Started, alive, descendants, told_of, until, until_gone

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are seen in /proc")

OWNER = Path(__file__).with_name("owner.py")
ROOT = os.geteuid() == 0


class Owner:
    """A running `owner.py`, and every process below it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the owner ended before its servers answered"
        self.process = process
        self.said: dict[str, Any] = json.loads(line)
        self.family = {*self.said["servers"], *self.said["guards"]} | descendants(process.pid)


StartOwner = Callable[..., Owner]


@pytest.fixture
def start_owner(tmp_path: Path) -> Iterator[StartOwner]:
    with contextlib.ExitStack() as stack:

        def start(mode: str = "wait", **options: Any) -> Owner:
            process = spawn_owner(mode, tmp_path / "data", **options)
            stack.callback(end, process)
            return Owner(process)

        yield start


@pytest.fixture
async def prepared(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """For tests of how servers end: their data directory is not a new one."""
    await put_cluster(tmp_path / "data", tmp_path_factory)


def spawn_owner(mode: str, data_dir: Path, **options: Any) -> subprocess.Popen[bytes]:
    # In a session of its own, so that a test can press Ctrl-C there: a signal to the whole group.
    return subprocess.Popen(
        [sys.executable, str(OWNER), mode, str(data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


async def write_everywhere(said: dict[str, Any] | EmbeddedServers) -> None:
    urls = urls_of(said)
    connection = await asyncpg.connect(urls[0])
    await connection.execute("CREATE TABLE kept AS SELECT 'postgres' AS value")
    await connection.close()
    async with Redis.from_url(urls[1]) as redis:
        await redis.set("kept", "valkey")
    client = await nats.connect(urls[2])
    jetstream = client.jetstream()
    await jetstream.add_stream(name="KEPT", subjects=["kept"])
    await jetstream.publish("kept", b"nats")
    await client.close()


async def read_everywhere(said: dict[str, Any] | EmbeddedServers) -> list[str]:
    urls = urls_of(said)
    connection = await asyncpg.connect(urls[0])
    found = [await connection.fetchval("SELECT value FROM kept")]
    await connection.close()
    async with Redis.from_url(urls[1]) as redis:
        found.append((await redis.get("kept")).decode())
    client = await nats.connect(urls[2])
    message = await client.jetstream().get_msg("KEPT", 1)
    await client.close()
    return [*found, (message.data or b"").decode()]


def urls_of(said: dict[str, Any] | EmbeddedServers) -> tuple[str, str, str]:
    if isinstance(said, EmbeddedServers):
        return said.database_url, said.redis_url, said.nats_url
    return said["database_url"], said["redis_url"], said["nats_url"]


EVERYTHING = ["postgres", "valkey", "nats"]


async def test_nothing_is_left_when_the_body_ends(tmp_path: Path) -> None:
    started = Started()
    async with embedded_servers(tmp_path, fast=True) as servers:
        await write_everywhere(servers)
        family = started()
        assert {servers.postgres.pid, servers.valkey.pid, servers.nats.pid} <= family
    assert not any(map(alive, family))


async def test_a_second_start_finds_the_data(tmp_path: Path) -> None:
    async with embedded_servers(tmp_path, fast=True) as servers:
        await write_everywhere(servers)
    async with embedded_servers(tmp_path, fast=True) as servers:
        assert await read_everywhere(servers) == EVERYTHING
    assert "not properly shut down" not in (tmp_path / "logs" / "postgres.log").read_text()


async def test_durable_servers_start_and_keep_their_data(tmp_path: Path) -> None:
    """The way `sandboxctl run --embedded` starts them: everything is flushed to disk."""
    async with embedded_servers(tmp_path) as servers:
        await write_everywhere(servers)
        connection = await asyncpg.connect(servers.database_url)
        assert await connection.fetchval("SHOW fsync") == "on"
        await connection.close()
        await servers.postgres.kill()
        await servers.postgres.start()
        assert await read_everywhere(servers) == EVERYTHING


async def test_cancellation_in_the_body_stops_the_servers(tmp_path: Path) -> None:
    started = Started()
    entered = asyncio.Event()

    async def own() -> None:
        async with embedded_servers(tmp_path, fast=True):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(own())
    await until(lambda: entered.is_set() or task.done())
    family = started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(family) >= 6  # three guards and three servers
    assert not any(map(alive, family))


@pytest.mark.parametrize("processes", [1, 3, 5, 7])
async def test_cancellation_during_the_start_stops_what_had_started(tmp_path: Path, processes: int) -> None:
    started = Started()

    async def own() -> None:
        async with embedded_servers(tmp_path, fast=True):
            await asyncio.Event().wait()

    task = asyncio.create_task(own())
    await until(lambda: len(started()) >= processes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert started() == set()
    async with embedded_servers(tmp_path, fast=True) as servers:
        await write_everywhere(servers)


@pytest.mark.usefixtures("prepared")
async def test_an_exception_in_the_owner(start_owner: StartOwner) -> None:
    owner = start_owner("raise")
    _, complaint = owner.process.communicate()
    assert b"RuntimeError: the body failed" in complaint
    assert not any(map(alive, owner.family))


@pytest.mark.usefixtures("prepared")
async def test_ctrl_c_stops_in_order(start_owner: StartOwner, tmp_path: Path) -> None:
    owner = start_owner()
    await write_everywhere(owner.said)
    os.killpg(owner.process.pid, signal.SIGINT)
    owner.process.communicate()
    assert not any(map(alive, owner.family))
    async with embedded_servers(tmp_path / "data", fast=True) as servers:
        assert await read_everywhere(servers) == EVERYTHING
    assert "not properly shut down" not in (tmp_path / "data" / "logs" / "postgres.log").read_text()


@pytest.mark.usefixtures("prepared")
async def test_a_killed_owner_takes_its_servers_along(start_owner: StartOwner, tmp_path: Path) -> None:
    owner = start_owner()
    await write_everywhere(owner.said)
    owner.process.kill()
    owner.process.wait()
    # At once: this start has to wait until the servers of the dead one have ended.
    async with embedded_servers(tmp_path / "data", fast=True) as servers:
        assert await read_everywhere(servers) == EVERYTHING
        await until_gone(owner.family)


@pytest.mark.usefixtures("prepared")
async def test_an_owner_killed_with_its_guards(start_owner: StartOwner, tmp_path: Path) -> None:
    owner = start_owner()
    await write_everywhere(owner.said)
    for pid in (owner.process.pid, *owner.said["guards"]):
        # A guard whose owner is gone ends by itself.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await until_gone(owner.family)
    async with embedded_servers(tmp_path / "data", fast=True) as servers:
        assert await read_everywhere(servers) == EVERYTHING


@pytest.mark.usefixtures("prepared")
async def test_everything_killed_at_once(start_owner: StartOwner, tmp_path: Path) -> None:
    owner = start_owner()
    await write_everywhere(owner.said)
    for pid in (owner.process.pid, *owner.said["guards"], *owner.said["servers"]):
        # A guard that outlives its owner for a moment ends its server itself.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await until_gone(owner.family)
    async with embedded_servers(tmp_path / "data", fast=True) as servers:
        assert await read_everywhere(servers) == EVERYTHING


async def test_servers_outlive_the_thread_that_started_them(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey", tmp_path / "valkey.log", fast=True)
    loop = asyncio.new_event_loop()

    def live() -> None:
        thread = threading.Thread(target=lambda: loop.run_until_complete(server.start()))
        thread.start()
        thread.join()
        loop.run_until_complete(server.wait_healthy(5))
        loop.run_until_complete(server.stop())
        loop.close()

    await asyncio.to_thread(live)
    assert not server.running


@pytest.mark.usefixtures("prepared")
async def test_a_directory_in_use_is_refused(start_owner: StartOwner, tmp_path: Path) -> None:
    owner = start_owner()
    await write_everywhere(owner.said)
    with pytest.raises(DataDirectoryInUse) as caught:
        async with embedded_servers(tmp_path / "data", fast=True):
            pass
    assert str(caught.value) == (
        f"Another process (pid {owner.process.pid}) uses the data directory {tmp_path / 'data'}: "
        "stop it first, or name another directory."
    )
    assert await read_everywhere(owner.said) == EVERYTHING


async def test_of_several_starts_at_once_one_wins(tmp_path: Path) -> None:
    entered: list[int] = []
    refused: list[DataDirectoryInUse] = []
    done = asyncio.Event()

    async def own(number: int) -> None:
        try:
            async with embedded_servers(tmp_path, fast=True):
                entered.append(number)
                await done.wait()
        except DataDirectoryInUse as error:
            refused.append(error)

    tasks = [asyncio.create_task(own(number)) for number in range(4)]
    await until(lambda: len(entered) + len(refused) == 4)
    done.set()
    await asyncio.gather(*tasks)
    assert (len(entered), len(refused)) == (1, 3)


@pytest.mark.skipif(not ROOT, reason="this user is not root; the other tests show the ordinary user's case")
async def test_root_runs_postgres_as_somebody_else(start_owner: StartOwner, tmp_path: Path) -> None:
    """In a directory only root can enter; nothing above the cluster is opened for that."""
    tmp_path.chmod(0o700)
    owner = start_owner()
    status = Path(f"/proc/{owner.said['servers'][0]}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    nobody = pwd.getpwnam("nobody").pw_uid
    assert fields["Uid"].split() == [str(nobody)] * 4
    assert fields["Groups"].split() == []
    assert int(fields["CapEff"], 16) == 1 << _guard.CAP_DAC_OVERRIDE
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    await write_everywhere(owner.said)


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_a_program_below_a_private_directory(tmp_path: Path) -> None:
    """PostgreSQL asks access(2), which is stricter than opening the file."""
    tmp_path.chmod(0o700)
    program = tmp_path / "program"
    program.touch(mode=0o755)
    nobody = pwd.getpwnam("nobody")
    asked = subprocess.run(
        [sys.executable, "-c", f"import os; print(os.getresuid(), os.access({str(program)!r}, os.X_OK))"],
        preexec_fn=lambda: _guard._change_user(nobody.pw_uid, nobody.pw_gid, [str(program)]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == f"({nobody.pw_uid}, {nobody.pw_uid}, {nobody.pw_uid}) True\n"


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
async def test_an_ordinary_user(start_owner: StartOwner, tmp_path: Path) -> None:
    """Keeps one right of root's, to reach a checkout and a Python wherever they are; nothing else of root."""
    nobody = pwd.getpwnam("nobody")
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    owner = start_owner(
        preexec_fn=lambda: _guard._change_user(nobody.pw_uid, nobody.pw_gid, ["/proc/1/environ"])
    )
    told = {pid: told_of(pid, "status") for pid in owner.family}
    assert all(told[pid] for pid in (*owner.said["servers"], *owner.said["guards"]))
    # The others are the servers' own, and may have ended since they were listed.
    assert all(f"Uid:\t{nobody.pw_uid}\t" in status for status in told.values() if status)
    await write_everywhere(owner.said)
    owner.process.kill()
    owner.process.wait()
    # Root comes after the user: the cluster stays the user's.
    async with embedded_servers(data, fast=True) as servers:
        assert await read_everywhere(servers) == EVERYTHING
        assert f"Uid:\t{nobody.pw_uid}\t" in Path(f"/proc/{servers.postgres.pid}/status").read_text()


async def test_a_path_with_odd_letters(tmp_path: Path) -> None:
    async with embedded_servers(tmp_path / 'it\'s a "$HOME" of \\ #é', fast=True) as servers:
        await write_everywhere(servers)
        assert await read_everywhere(servers) == EVERYTHING


async def test_a_data_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="can't be used"):
        async with embedded_servers(tmp_path / "file" / "data"):
            pass
