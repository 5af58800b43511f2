"""The common base of the three embedded servers: start, stop, kill, restart, health."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from ._errors import EmbeddedServerError
from ._private import DIRECTORY
from ._process import GuardedProcess, ProcessPlan

HOST = "127.0.0.1"
START_TIMEOUT = 30.0
_PROBE_TIMEOUT = 2.0
_PROBE_INTERVAL = 0.02
_LOG_TAIL_LINES = 15


class EmbeddedServer(ABC):
    """One server on a loopback port, with its data in `data_dir` and its output in `log`.

    It ends when this process ends for any reason. `lock` is a locked descriptor that the server inherits, so
    the lock is held while the server runs. `fast` is faster, but may lose data at a power cut.
    """

    name: ClassVar[str]
    grace = 10.0
    """Seconds from the stop signal to SIGKILL in `stop`."""

    def __init__(self, data_dir: Path, log: Path, *, lock: int | None = None, fast: bool = False) -> None:
        self._data_dir = data_dir.resolve()
        self._log = log.resolve()
        self._lock = lock
        self._fast = fast
        self._port: int | None = None
        self._process: GuardedProcess | None = None
        self._log_start = 0

    @property
    def data_dir(self) -> Path:
        """The directory of the server's data."""
        return self._data_dir

    @property
    def running(self) -> bool:
        """Whether the server's process runs; `wait_healthy` checks that it answers."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The server's process id. Raises `EmbeddedServerError` when it is not running."""
        if self._process is None or not self._process.running:
            raise EmbeddedServerError(f"{self.name} is not running")
        return self._process.pid

    @property
    def _started_pid(self) -> int | None:
        """The same as `pid`, but also for a process that has just ended."""
        return None if self._process is None else self._process.pid

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; a restart keeps it.

        Raises `EmbeddedServerError` before the first start.
        """
        if self._port is None:
            raise EmbeddedServerError(f"{self.name} has not been started")
        return self._port

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients; may contain a password."""

    async def start(self) -> None:
        """Start and wait until it answers: on a free port, or on the same port as before.

        Raises `EmbeddedServerError` with the end of the server's log when it does not start.
        """
        if self.running:
            raise EmbeddedServerError(f"{self.name} is already running")
        await self.stop()  # cleans up after a process that has ended
        self._log.parent.mkdir(mode=DIRECTORY, parents=True, exist_ok=True)
        await self._prepare()
        if self._port is not None:
            if not _is_free(self._port):
                raise EmbeddedServerError(f"port {self._port}, {self.name}'s, is taken by another process")
            await self._launch()
            return
        for _ in range(3):
            self._port = _free_port()
            try:
                await self._launch()
            except EmbeddedServerError:
                # Try again only when another process has taken the port meanwhile.
                if _is_free(self._port):
                    self._port = None
                    raise
            else:
                return
        raise EmbeddedServerError(f"{self.name} found no free port")

    async def stop(self) -> None:
        """Send the stop signal, and SIGKILL after `grace` seconds. Does nothing when it is not running."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop()

    async def kill(self) -> None:
        """Send SIGKILL, as in a crash. Returns when every process of the server has ended."""
        process, self._process = self._process, None
        if process is not None:
            await process.kill()

    async def restart(self) -> None:
        """Stop it if it runs, and start it again with the same port and data."""
        await self.stop()
        await self.start()

    async def wait_healthy(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the server answers a real request.

        Raises `EmbeddedServerError` when it has ended, or does not answer within `timeout` seconds.
        """
        if self._process is None:
            raise EmbeddedServerError(f"{self.name} is not running")
        deadline = time.monotonic() + timeout
        while True:
            try:
                async with asyncio.timeout(min(_PROBE_TIMEOUT, deadline - time.monotonic())):
                    await self._probe()
            except (OSError, EOFError) as error:  # TimeoutError and refused connections are OSErrors
                last = error
            else:
                return
            if await self._process.wait(_PROBE_INTERVAL) is not None:
                raise EmbeddedServerError(f"{self.name} ended while it was starting.{self._log_tail()}")
            if time.monotonic() >= deadline:
                raise EmbeddedServerError(
                    f"{self.name} did not answer within {timeout:g} seconds ({last}).{self._log_tail()}"
                )

    async def _prepare(self) -> None:
        """Prepare the data directory for a start."""
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    @abstractmethod
    def _plan(self) -> ProcessPlan:
        """Return the command line for the current port."""

    @abstractmethod
    async def _probe(self) -> None:
        """Send one real request. Raises `OSError` or `EOFError` until this server answers it.

        The answer must identify the server: another server may have taken the port.
        """

    async def _launch(self) -> None:
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        process = await GuardedProcess.start(self._plan())
        self._process = process
        try:
            await self.wait_healthy()
        except BaseException:
            # Also on cancellation: the caller will not stop this server.
            self._process = None
            await process.kill()
            raise

    def _log_tail(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        shown = "".join(f"\n    {line}" for line in lines[-_LOG_TAIL_LINES:])
        return f" The end of {self._log}:{shown or ' (empty)'}"


def _free_port() -> int:
    """Return a free port below the range that systems use for outgoing connections.

    Otherwise a client's connection could take the port before the server has bound it, or during a restart.
    """
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        if _is_free(port):
            return port
    raise EmbeddedServerError("no free port was found on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # The servers do the same: old connections in TIME_WAIT then do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
