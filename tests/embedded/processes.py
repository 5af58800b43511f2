"""Looks at processes from outside, in /proc."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path


def told_of(pid: int, file: str) -> str:
    """What /proc says of the process in this file; "" when it is gone, which any process may be by now."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """False for a process that is gone, or ended and only not yet collected by its parent."""
    stat = told_of(pid, "stat")
    return bool(stat) and stat.rsplit(")", 1)[1].split()[0] not in {"Z", "X"}


def descendants(pid: int) -> set[int]:
    """Every process below `pid`."""
    below = children(pid)
    return below.union(*map(descendants, below))


def stopped(pid: int) -> bool:
    """True when all threads of the process have come to rest after SIGSTOP, or have ended."""
    stats = [told_of(pid, f"task/{thread}/stat") for thread in _threads(pid)]
    return all(stat.rsplit(")", 1)[1].split()[0] in {"T", "Z", "X"} for stat in stats if stat)


def children(pid: int) -> set[int]:
    """The processes that `pid` has started itself and not yet collected."""
    return {int(word) for thread in _threads(pid) for word in told_of(pid, f"task/{thread}/children").split()}


class Started:
    """What this process has started since this object was made, and what that has started.

    Servers that it had before are left out, with all that they start meanwhile: PostgreSQL starts a process
    for each connection and each vacuum.
    """

    def __init__(self) -> None:
        self._before = children(os.getpid())

    def __call__(self) -> set[int]:
        """Their ids now."""
        roots = children(os.getpid()) - self._before
        return roots.union(*map(descendants, roots))


def _threads(pid: int) -> list[str]:
    try:
        return [path.name for path in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []


async def until_gone(pids: Iterable[int]) -> None:
    """Return when none of `pids` is alive; fails after a minute, naming those that are."""
    wanted = set(pids)
    try:
        await until(lambda: not any(map(alive, wanted)))
    except TimeoutError:
        left = {pid: told_of(pid, "cmdline") for pid in wanted if alive(pid)}
        raise AssertionError(f"still running: {left}") from None


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; `TimeoutError` after a minute."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
