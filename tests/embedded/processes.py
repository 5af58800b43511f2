"""Looks at processes from outside, in /proc."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path


def alive(pid: int) -> bool:
    """False for a process that is gone, or ended and only not yet collected by its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def command_line(pid: int) -> str:
    """How the process was called; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descendants(pid: int) -> set[int]:
    """Every process below `pid`."""
    found: set[int] = set()
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return found
    for child in (int(word) for text in lists for word in text.split()):
        found |= {child} | descendants(child)
    return found


async def until_gone(pids: Iterable[int]) -> None:
    """Return when none of `pids` is alive; fails after 20 seconds, naming those that are."""
    wanted = set(pids)
    try:
        await until(lambda: not any(map(alive, wanted)))
    except TimeoutError:
        left = {pid: command_line(pid) for pid in wanted if alive(pid)}
        raise AssertionError(f"still running: {left}") from None


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; `TimeoutError` after 20 seconds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
