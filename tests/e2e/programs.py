"""Runs the project's programs as a shell would: their own process, environment and exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.embedded.processes import descendants, until_gone

ROOT = Path(__file__).resolve().parents[2]
_STARTS_WITHIN = 60.0


class Program:
    """A running program. What it prints is collected."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._output = bytearray()
        self._errors = bytearray()
        self._readers = [
            asyncio.create_task(_collect(stream, into))
            for stream, into in ((process.stdout, self._output), (process.stderr, self._errors))
        ]
        self.family: set[int] = set()
        """Every process below it that was seen; none may outlive it."""

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.decode()

    @property
    def errors(self) -> str:
        """What it has printed to standard error so far."""
        return self._errors.decode()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def look_at_family(self) -> None:
        """Note the processes below it."""
        self.family |= descendants(self._process.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._process.returncode is None

    async def exit_code(self) -> int:
        """Wait for its end, and for the end of everything it had started."""
        async with asyncio.timeout(_STARTS_WITHIN):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        await until_gone(self.family)
        return code


@asynccontextmanager
async def program(*arguments: str, directory: Path, **environment: str) -> AsyncIterator[Program]:
    """`python -m …` in `directory` with this environment alone; killed if the test leaves it running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        cwd=directory,
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Program(process)
    try:
        yield running
    finally:
        if running.running:
            running.look_at_family()
            process.kill()
            await running.exit_code()


async def _collect(stream: asyncio.StreamReader | None, into: bytearray) -> None:
    assert stream is not None
    while chunk := await stream.read(65536):
        into.extend(chunk)
