"""Lets only one process use a data directory.

It has two locks with flock(2), which the kernel releases when the last process that holds them ends. Only the
process itself holds `lock`: while it does, a second start is refused at once. Guards and servers inherit
`servers.lock`: after the process was killed, the next start waits until its servers have stopped.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ._errors import DataDirectoryInUse


@asynccontextmanager
async def lock_data_dir(data_dir: Path, *, patience: float = 30.0) -> AsyncIterator[int]:
    """Lock `data_dir`; yields the descriptor that the servers must inherit.

    Raises `DataDirectoryInUse` at once when another process has locked it, and after `patience` seconds when
    servers of an ended process still run.
    """
    own = _open(data_dir / "lock")
    try:
        if not _try_lock(own):
            holder = os.read(own, 20).decode(errors="replace").strip() or "unknown"
            raise DataDirectoryInUse(
                f"Another process (pid {holder}) uses the data directory {data_dir}: "
                "stop it first, or name another directory."
            )
        os.ftruncate(own, 0)
        os.pwrite(own, f"{os.getpid()}\n".encode(), 0)
        servers = _open(data_dir / "servers.lock")
        try:
            await _wait_for_lock(servers, data_dir, patience)
            yield servers
        finally:
            os.close(servers)
    finally:
        os.close(own)


async def _wait_for_lock(descriptor: int, data_dir: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not _try_lock(descriptor):
        if time.monotonic() >= deadline:
            raise DataDirectoryInUse(
                f"Servers that an earlier process started on the data directory {data_dir} are still running."
            )
        await asyncio.sleep(0.05)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
