"""Starts a program under a guard (see `_guard`) and follows its life."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ._errors import EmbeddedServerError

_GUARD = Path(__file__).with_name("_guard.py")


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """How to run one program."""

    command: Sequence[str]
    """The program's path and its arguments; no secrets, other users can read them."""
    log: Path
    """Takes everything the program prints."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    """Seconds from the stop signal to SIGKILL."""
    user: tuple[int, int] | None = None
    """uid and gid to run as; only root can ask for another than its own."""
    reach: Sequence[Path] = ()
    """What that user must get at."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables besides the few that every program gets; no secrets either."""
    lease: int | None = None
    """A locked descriptor that the program holds for as long as it runs."""


class GuardedProcess:
    """A program that ends when this process does. Made by `start`."""

    def __init__(
        self,
        guard: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pid: int,
    ) -> None:
        self._guard = guard
        self._reader = reader
        self._writer = writer
        self._pid = pid
        self._exit = asyncio.create_task(self._read_exit(), name=f"embedded server {pid}")

    @classmethod
    async def start(cls, plan: ProcessPlan) -> GuardedProcess:
        """Start the program. Raises `EmbeddedServerError` when its guard does not start."""
        ours, theirs = socket.socketpair()
        with theirs:
            guard = _spawn_guard(plan, theirs)
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            line = await reader.readline()
            if not line.startswith(b"pid "):
                raise EmbeddedServerError(f"{plan.command[0]} did not start; see {plan.log}")
        except BaseException:
            # Also on cancellation; nobody has this process yet, so nobody else can end it. The guard kills
            # what it started as soon as the socket says so, hence waiting here is short.
            _hang_up(ours, writer)
            guard.wait()
            raise
        return cls(guard, reader, writer, int(line.split()[1]))

    @property
    def pid(self) -> int:
        """The program's process id (the guard's is another)."""
        return self._pid

    @property
    def running(self) -> bool:
        """False once the program and everything it had started are gone."""
        return not self._exit.done()

    async def wait(self, timeout: float | None = None) -> int | None:
        """The exit code (negative for a signal), or None when it still runs after `timeout` seconds."""
        done, _ = await asyncio.wait({self._exit}, timeout=timeout)
        return self._exit.result() if done else None

    async def stop(self) -> int:
        """Send the stop signal, SIGKILL after the grace period; returns the exit code when all is gone."""
        return await self._end(b"s")

    async def kill(self) -> int:
        """SIGKILL for the program and what it left; returns when all is gone."""
        return await self._end(b"k")

    async def _end(self, order: bytes) -> int:
        if self.running:
            self._writer.write(order)
        code = await asyncio.shield(self._exit)
        self._writer.close()
        return code

    async def _read_exit(self) -> int:
        line = await self._reader.readline()
        # The guard ends right after this line; when it was killed instead, there is no line.
        await self._reader.read()
        self._guard.wait()
        return int(line.split()[1]) if line.startswith(b"exit ") else -signal.SIGKILL


def _hang_up(control: socket.socket, writer: asyncio.StreamWriter | None) -> None:
    with contextlib.suppress(OSError):  # the guard may be gone
        control.send(b"k")
        control.shutdown(socket.SHUT_RDWR)
    if writer is None:
        control.close()
    else:
        writer.close()


def _spawn_guard(plan: ProcessPlan, control: socket.socket) -> subprocess.Popen[bytes]:
    wanted = {
        "command": list(plan.command),
        # Nothing of ours: variables such as PGDATA or PGPORT would change what the servers do.
        "environment": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **plan.environment},
        "stop_signal": int(plan.stop_signal),
        "grace": plan.grace,
        "user": plan.user,
        "reach": [str(path) for path in plan.reach],
    }
    with plan.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 (our own script and a plan made here)
            [sys.executable, "-I", "-S", str(_GUARD), json.dumps(wanted)],
            stdin=control.fileno(),
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            pass_fds=() if plan.lease is None else (plan.lease,),
        )
