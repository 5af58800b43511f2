"""Starts a program under a guard (see `_guard`), and stops it or waits for its end."""

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
from ._private import open_private

_GUARD = Path(__file__).with_name("_guard.py")


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """How to run one program."""

    command: Sequence[str]
    """The program's path and its arguments; without secrets, because other users can read them."""
    log: Path
    """The file for everything that the program prints."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    """Seconds from the stop signal to SIGKILL."""
    user: tuple[int, int] | None = None
    """uid and gid to run as; only root can choose another user."""
    reach: Sequence[Path] = ()
    """Paths that the user must be able to read."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables in addition to the few that every program gets; without secrets, too."""
    lock: int | None = None
    """A locked descriptor that the program holds while it runs."""


class GuardedProcess:
    """A program that ends when this process ends. `start` creates it."""

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
            # Also on cancellation: no caller has this object yet, so no other code can end the program. The
            # guard kills it as soon as the socket closes, so the wait is short.
            _hang_up(ours, writer)
            guard.wait()
            raise
        return cls(guard, reader, writer, int(line.split()[1]))

    @property
    def pid(self) -> int:
        """The program's process id (not the guard's)."""
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the program or a process that it started still runs."""
        return not self._exit.done()

    async def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end. Return the exit code (negative for a signal), or None after `timeout` seconds."""
        done, _ = await asyncio.wait({self._exit}, timeout=timeout)
        return self._exit.result() if done else None

    async def stop(self) -> int:
        """Send the stop signal, and SIGKILL after the grace period. Return the exit code after the end."""
        return await self._end(b"s")

    async def kill(self) -> int:
        """Send SIGKILL to the program and all its processes. Return the exit code after the end."""
        return await self._end(b"k")

    async def _end(self, order: bytes) -> int:
        if self.running:
            self._writer.write(order)
        code = await asyncio.shield(self._exit)
        self._writer.close()
        return code

    async def _read_exit(self) -> int:
        line = await self._reader.readline()
        # The guard ends right after this line; a killed guard sends no line.
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
        # No variables of this process: PGDATA or PGPORT, for example, would change the servers.
        "environment": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **plan.environment},
        "stop_signal": int(plan.stop_signal),
        "grace": plan.grace,
        "user": plan.user,
        "reach": [str(path) for path in plan.reach],
    }
    with open_private(plan.log, os.O_WRONLY | os.O_APPEND, "ab") as log:
        return subprocess.Popen(  # noqa: S603 (our own script and a plan made here)
            [sys.executable, "-I", "-S", str(_GUARD), json.dumps(wanted)],
            stdin=control.fileno(),
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            pass_fds=() if plan.lock is None else (plan.lock,),
        )
