"""Processes of `sandboxctl` and other programs that start without their imports' second.

They can be signalled and killed like any other; see `tests/warm.py` for the server that they are forks of. A
run of the tests has one server, whichever of its processes asks.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WARM = Path(__file__).with_name("warm.py")

_MODULES = (
    *("sandbox_bot.cli", "sandbox_bot.runner", "sandbox_bot.embedded", "sandbox_bot.tour", "sandbox_cogs"),
    *("sandbox_cogs.gateway", "sandbox_cogs.owner", "sandbox_cogs.sandbox", "sandbox_cogs.upkeep"),
    *("discord_sim.__main__", "docs.worker_example", "tests.cleanup.mortal", "tests.publishers.host"),
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
            [*python, str(WARM), "serve", str(self.endpoint), *modules],
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
        """End it. What it has started goes on."""
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
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader | None,
        answers: asyncio.StreamReader,
        connection: asyncio.StreamWriter,
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        """None when it goes to `stdout`, too."""
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._wait(answers, connection))

    async def wait(self) -> int:
        """Return its exit code; negative for the signal that ended it."""
        return await asyncio.shield(self._ended)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait for its end; what it has printed."""
        reading = (stream.read() for stream in (self.stdout, self.stderr) if stream is not None)
        out, *err = await asyncio.gather(*reading)
        await self.wait()
        return out, b"".join(err)

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
    endpoint: Path | None = None,
) -> ForkedProcess:
    """Start `python -m MODULE` as a fork of the run's server, or of the one at `endpoint`.

    Standard error goes to `stdout` unless it is to have a stream of its own.
    """
    request = {
        "module": module,
        "arguments": arguments,
        "directory": str(directory or Path.cwd()),
        "environment": dict(environment),
    }
    connection = socket.socket(socket.AF_UNIX)
    nothing = os.open(os.devnull, os.O_RDONLY)
    out, writing_out = os.pipe()
    err, writing_err = os.pipe() if own_stderr else (None, writing_out)
    try:
        connection.connect(str(endpoint or warm_endpoint()))
        socket.send_fds(connection, [json.dumps(request).encode()], [nothing, writing_out, writing_err])
    finally:
        for descriptor in {nothing, writing_out, writing_err}:
            os.close(descriptor)
    answers, writer = await asyncio.open_unix_connection(sock=connection)
    stdout = await _reader(out)
    stderr = None if err is None else await _reader(err)
    return ForkedProcess(int(await answers.readline()), stdout, stderr, answers, writer)


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    return reader
