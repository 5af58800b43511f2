"""One owner at a time for a data directory.

Two locks, both flock(2), so the kernel releases them when the last process that holds them is gone. `lock` is
the owner's alone: while it is held, a second start is refused at once. `servers.lock` is inherited by the
guards and the servers: after an owner was killed it stays held until its servers have stopped, and the next
start waits.
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
async def lease(data_dir: Path, *, patience: float = 30.0) -> AsyncIterator[int]:
    """Own `data_dir`; yields the descriptor that the servers have to inherit.

    Raises `DataDirectoryInUse` at once when another process owns it, and after `patience` seconds when
    servers of an owner that is gone are still running.
    """
    owner = _open(data_dir / "lock")
    try:
        if not _try_lock(owner):
            holder = os.read(owner, 20).decode(errors="replace").strip() or "unknown"
            raise DataDirectoryInUse(
                f"The data directory {data_dir} is in use by another process (pid {holder}): "
                "stop that one first, or name another directory."
            )
        os.ftruncate(owner, 0)
        os.pwrite(owner, f"{os.getpid()}\n".encode(), 0)
        servers = _open(data_dir / "servers.lock")
        try:
            await _wait_for_lock(servers, data_dir, patience)
            yield servers
        finally:
            os.close(servers)
    finally:
        os.close(owner)


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
