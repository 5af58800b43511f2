"""What the three embedded servers have in common: starting, stopping, killing, restarting, health."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from ._errors import EmbeddedServerError
from ._process import GuardedProcess, ProcessPlan

HOST = "127.0.0.1"
START_TIMEOUT = 30.0
_PROBE_TIMEOUT = 2.0
_PROBE_INTERVAL = 0.02
_LOG_TAIL_LINES = 15


class EmbeddedServer(ABC):
    """One server on a loopback port, its data in `data_dir`, its output in `log`.

    It ends with this process, however this process ends. `lease` is a locked descriptor that the server
    inherits, so that the lock stands while it runs; `fast` gives up safety against a power cut for speed.
    """

    name: ClassVar[str]
    grace = 10.0
    """Seconds that `stop` waits for an orderly end before SIGKILL."""

    def __init__(self, data_dir: Path, log: Path, *, lease: int | None = None, fast: bool = False) -> None:
        self._data_dir = data_dir.resolve()
        self._log = log.resolve()
        self._lease = lease
        self._fast = fast
        self._port: int | None = None
        self._process: GuardedProcess | None = None
        self._log_start = 0

    @property
    def data_dir(self) -> Path:
        """Where the server keeps its data."""
        return self._data_dir

    @property
    def running(self) -> bool:
        """True while the server's process is there; whether it answers is `wait_healthy`'s business."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The server's process id. Raises `EmbeddedServerError` when it is not running."""
        if self._process is None or not self._process.running:
            raise EmbeddedServerError(f"{self.name} is not running")
        return self._process.pid

    @property
    def _started_pid(self) -> int | None:
        """As `pid`, but also of a process that has just ended."""
        return None if self._process is None else self._process.pid

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, kept across restarts.

        Raises `EmbeddedServerError` before the first start.
        """
        if self._port is None:
            raise EmbeddedServerError(f"{self.name} has not been started")
        return self._port

    @property
    @abstractmethod
    def url(self) -> str:
        """The address a client connects to; may hold a password."""

    async def start(self) -> None:
        """Start and wait until it answers: on a free port, or on the same port as before.

        Raises `EmbeddedServerError` with the end of the server's log when it does not come up.
        """
        if self.running:
            raise EmbeddedServerError(f"{self.name} is already running")
        await self.stop()  # puts away a process that has ended by itself
        self._log.parent.mkdir(parents=True, exist_ok=True)
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
                # Another process may have taken the port in the meantime; anything else is final.
                if _is_free(self._port):
                    self._port = None
                    raise
            else:
                return
        raise EmbeddedServerError(f"{self.name} found no free port")

    async def stop(self) -> None:
        """Shut down in order, with SIGKILL after `grace` seconds. Does nothing when it is not running."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop()

    async def kill(self) -> None:
        """SIGKILL, as in a crash. Returns when every process of the server is gone."""
        process, self._process = self._process, None
        if process is not None:
            await process.kill()

    async def restart(self) -> None:
        """Stop it if it runs and start it again, on the same port and data."""
        await self.stop()
        await self.start()

    async def wait_healthy(self, timeout: float = START_TIMEOUT) -> None:
        """Return when the server answers a real request.

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
        """Whatever the data directory needs before a start."""
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    @abstractmethod
    def _plan(self) -> ProcessPlan:
        """The command line for the present port."""

    @abstractmethod
    async def _probe(self) -> None:
        """One real request; raises `OSError` or `EOFError` until this very server answers it.

        The answer must show which server it is: another one may have taken the port.
        """

    async def _launch(self) -> None:
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        process = await GuardedProcess.start(self._plan())
        self._process = process
        try:
            await self.wait_healthy()
        except BaseException:
            # Also on cancellation: a server that nobody waits for must not stay.
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
    """A port nobody listens on, below the range from which systems take the ports of outgoing connections.

    A port from that range could be taken by any client's connection before the server has bound it, or while
    it restarts.
    """
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        if _is_free(port):
            return port
    raise EmbeddedServerError("no free port was found on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that linger after a server's end are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
