"""Runs the project's programs as a shell would: their own process, environment and exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.embedded.processes import descendants, until_gone
from tests.forked import ROOT, ForkedProcess, start_forked

_ENDS_WITHIN = 60.0
_BARE = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}


class Program:
    """A running program. What it prints is collected."""

    def __init__(self, process: asyncio.subprocess.Process | ForkedProcess) -> None:
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

    def press_ctrl_c(self) -> None:
        """What a terminal does: SIGINT to all of a command's process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._process.returncode is None

    async def exit_code(self, within: float = _ENDS_WITHIN) -> int:
        """Wait for its end, and for the end of everything it had started; `within` in seconds."""
        async with asyncio.timeout(within):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        await until_gone(self.family)
        return code


@asynccontextmanager
async def program(
    module: str,
    *arguments: str,
    directory: Path,
    own_interpreter: bool = False,
    server: Path | None = None,
    **environment: str,
) -> AsyncIterator[Program]:
    """`python -m …` in `directory` with this environment alone; killed if the test leaves it running.

    It is a fork of the run's server, or of the one at `server`, unless it is to have an interpreter of its
    own, which takes a second longer.
    """
    whole = {"PYTHONPATH": str(ROOT), **_BARE, **environment}
    process: asyncio.subprocess.Process | ForkedProcess
    if own_interpreter:
        process = await _start(sys.executable, "-m", module, *arguments, directory=directory, env=whole)
    else:
        process = await start_forked(
            *arguments,
            environment=whole,
            module=module,
            directory=directory,
            own_stderr=True,
            endpoint=server,
        )
    running = Program(process)
    try:
        yield running
    finally:
        if running.running:
            running.look_at_family()
            process.kill()
            await running.exit_code()


@asynccontextmanager
async def command(*words: str, directory: Path, **environment: str) -> AsyncIterator[Program]:
    """Any command, in a process group of its own, of which nothing is left when the test is over."""
    process = await _start(*words, directory=directory, env={**_BARE, **environment}, own_group=True)
    running = Program(process)
    try:
        yield running
    finally:
        running.look_at_family()
        # Servers are in groups of their own and end with the program that has started them.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await running.exit_code()


async def _start(
    *words: str, directory: Path, env: dict[str, str], own_group: bool = False
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *words,
        cwd=directory,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=own_group,
    )


async def _collect(stream: asyncio.StreamReader | None, into: bytearray) -> None:
    assert stream is not None
    while chunk := await stream.read(65536):
        into.extend(chunk)
