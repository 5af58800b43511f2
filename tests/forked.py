"""A process of `sandboxctl` that starts without its imports' second, and can be killed like any other."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path


class ForkedProcess:
    """What `asyncio.subprocess.Process` is for a program; standard error goes to `stdout`, too."""

    def __init__(
        self,
        pid: int,
        stdout: asyncio.StreamReader,
        answers: asyncio.StreamReader,
        connection: asyncio.StreamWriter,
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._wait(answers, connection))

    async def wait(self) -> int:
        """Return its exit code; negative for the signal that ended it."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    async def _wait(self, answers: asyncio.StreamReader, connection: asyncio.StreamWriter) -> int:
        self.returncode = int(await answers.readline())
        connection.close()
        return self.returncode


async def start_forked(
    endpoint: Path, *arguments: str, environment: Mapping[str, str], name: str = "sandboxctl"
) -> ForkedProcess:
    """Start the program `name` as a fork of the server at `endpoint`; see `tests/warm.py`."""
    request = {
        "program": name,
        "arguments": arguments,
        "directory": str(Path.cwd()),
        "environment": dict(environment),
    }
    reading, writing = os.pipe()
    connection = socket.socket(socket.AF_UNIX)
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        connection.connect(str(endpoint))
        socket.send_fds(connection, [json.dumps(request).encode()], [nothing, writing, writing])
    finally:
        os.close(nothing)
        os.close(writing)
    answers, writer = await asyncio.open_unix_connection(sock=connection)
    stdout = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(reading, "rb")
    )
    return ForkedProcess(int(await answers.readline()), stdout, answers, writer)
