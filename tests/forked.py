"""Processes of `sandboxctl` and other programs that start without their imports' second.

They can be signalled and killed like any other; see `tests/warm.py` for the server that they are forks of. A
run of the tests has one server, whichever of its processes asks.
"""

from __future__ import annotations

import asyncio
import atexit
import marshal
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parents[1]
WARM = Path(__file__).with_name("warm.py")
ASK = Path(__file__).with_name("ask_warm.py")

_MODULES = (
    *("sandbox_bot.cli", "sandbox_bot.runner", "sandbox_bot.embedded", "sandbox_bot.tour", "sandbox_cogs"),
    *("sandbox_cogs.gateway", "sandbox_cogs.owner", "sandbox_cogs.sandbox", "sandbox_cogs.upkeep"),
    *("discord_sim.__main__", "docs.worker_example", "tests.cleanup.mortal", "tests.publishers.host"),
    *("tests.isolation.mortal", "tests.isolation.mortal_proof", "tests.tenant_nats.mortal"),
    *("benchmarks.__main__", "benchmarks.beside"),
)
_LIMIT = 1 << 20
"""Bytes of a line of output that a reader can take."""


class WarmServer:
    """A running server, and the address that its clients need."""

    def __init__(
        self,
        *,
        python: Sequence[str] = (sys.executable,),
        modules: Sequence[str] = _MODULES,
        directory: Path = ROOT,
        **environment: str,
    ) -> None:
        """Start it, with this environment alone where one is given; it need not be waited for."""
        self._place = tempfile.TemporaryDirectory(prefix="warm-")
        self.endpoint = Path(self._place.name) / "socket"
        self._process = subprocess.Popen(
            [*python, str(WARM), str(self.endpoint), *modules],
            cwd=directory,
            env=environment or {**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        # It listens now, and imports while its first client waits.
        with self._process.stdout as said:
            assert said.readline() == b"serving\n"

    def stop(self) -> None:
        """End it. What it has started goes on, and nobody is told of its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._place.cleanup()


class _Run:
    """The server of this run of the tests."""

    endpoint: Path | None = None


def warm_endpoint() -> Path:
    """Where the run's server listens; started now, when nobody has told this process of one."""
    if _Run.endpoint is None:
        server = WarmServer()
        atexit.register(server.stop)
        _Run.endpoint = server.endpoint
    return _Run.endpoint


def use_server_at(endpoint: Path) -> None:
    """Tell this process of the run's server."""
    _Run.endpoint = endpoint


class ForkedProcess:
    """What `asyncio.subprocess.Process` is for a program."""

    def __init__(
        self,
        pid: int,
        stdout: asyncio.StreamReader | None,
        stderr: asyncio.StreamReader | None,
        answers: asyncio.StreamReader,
        connection: asyncio.StreamWriter,
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        """None when it goes to `stdout`, too, or to a descriptor of the caller's."""
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._wait(answers, connection))

    async def wait(self) -> int:
        """Return its exit code; negative for the signal that ended it."""
        return await asyncio.shield(self._ended)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait for its end; what it has printed."""
        out, err = await asyncio.gather(*(_all_of(stream) for stream in (self.stdout, self.stderr)))
        await self.wait()
        return out, err

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def _wait(self, answers: asyncio.StreamReader, connection: asyncio.StreamWriter) -> int:
        self.returncode = int(await answers.readline())
        connection.close()
        return self.returncode


async def start_forked(
    *arguments: str,
    environment: Mapping[str, str],
    module: str = "sandbox_bot",
    directory: Path | None = None,
    own_stderr: bool = False,
    streams: Mapping[int, int] = MappingProxyType({}),
    given: bytes = b"",
    endpoint: Path | None = None,
) -> ForkedProcess:
    """Start `python -m MODULE` as a fork of the run's server, or of the one at `endpoint`.

    Standard error goes to `stdout` unless it is to have a stream of its own. Standard input has what is
    `given`, a few kilobytes at most. `streams` has descriptors of the caller's that are to be its standard
    input, output or error.
    """
    request = {
        "module": module,
        "arguments": arguments,
        "directory": str(directory or Path.cwd()),
        "environment": dict(environment),
        "streams": [0, 1, 2],
    }
    connection = socket.socket(socket.AF_UNIX)
    # The ends that are the process's, and those that are read here.
    theirs: dict[int, int] = {0: _holding(given) if given else os.open(os.devnull, os.O_RDONLY)}
    ours: dict[int, int] = {}
    for number in (1, 2):
        if number not in streams and (number == 1 or own_stderr):
            ours[number], theirs[number] = os.pipe()
    used = {**theirs, **streams}
    try:
        connection.connect(str(endpoint or warm_endpoint()))
        socket.send_fds(connection, [marshal.dumps(request)], [used[0], used[1], used.get(2, used[1])])
    finally:
        for descriptor in theirs.values():
            os.close(descriptor)
    answers, writer = await asyncio.open_unix_connection(sock=connection)
    readers = {number: await _reader(descriptor) for number, descriptor in ours.items()}
    pid = int(await answers.readline())
    return ForkedProcess(pid, readers.get(1), readers.get(2), answers, writer)


def _holding(given: bytes) -> int:
    """The reading end of a pipe that holds this."""
    reading, writing = os.pipe()
    os.write(writing, given)
    os.close(writing)
    return reading


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    return reader
