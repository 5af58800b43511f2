"""The tour under every kind of standard stream, in as few tours as show it: each takes seconds."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox_bot._streams import can_draw

from .test_every_ending import unread

ROOT = Path(__file__).resolve().parents[2]
LASTS = 90.0


async def start(
    warm: Sequence[str], directory: Path, *words: str, stdout: Any, stderr: Any, **env: str
) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(directory)}
    return await asyncio.create_subprocess_exec(
        *(*warm, "tour", *words),
        cwd=directory,
        env={**environment, **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
    )


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(LASTS):
        return await process.wait()


async def test_output_that_nobody_takes(warm_sandboxctl: list[str], tmp_path: Path) -> None:
    """It ends with its first words, before any server is started, and leaves no log."""
    with (tmp_path / "err").open("wb+") as errors:
        with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 (a device)
            process = await start(warm_sandboxctl, tmp_path, stdout=full, stderr=errors)
            assert await ended(process) == 1
        errors.seek(0)
        assert errors.read() == b"Standard output can't be written: No space left on device.\n"
        errors.truncate(0)
        with unread() as pipe:
            process = await start(warm_sandboxctl, tmp_path, stdout=pipe, stderr=errors)
            assert await ended(process) == 141
        errors.seek(0)
        assert errors.read() == b""
    assert [path.name for path in tmp_path.iterdir()] == ["err"]


async def test_closed_streams(tmp_path: Path) -> None:
    script = f"exec {sys.executable} -m sandbox_bot tour <&- >&- 2>&-"
    process = await start(("sh", "-c", script), tmp_path, stdout=None, stderr=None)
    assert await ended(process) == 0
    assert list(tmp_path.iterdir()) == []


def terminal(columns: int) -> tuple[int, int]:
    """Both ends of a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return ours, theirs


async def shown(process: asyncio.subprocess.Process, ours: int, *, until: bytes = b"") -> bytes:
    """All that it writes to the terminal; Ctrl-C is pressed once `until` is there."""
    written = b""
    while True:
        try:
            written += await asyncio.to_thread(os.read, ours, 65536)
        except OSError:
            # Linux's answer when the other end is closed.
            break
        if until and until in written:
            until = b""
            process.send_signal(signal.SIGINT)
    os.close(ours)
    assert b"Traceback" not in written
    return written


async def test_a_plain_terminal_of_one_column(warm_sandboxctl: list[str], tmp_path: Path) -> None:
    ours, theirs = terminal(1)
    process = await start(warm_sandboxctl, tmp_path, stdout=theirs, stderr=theirs, TERM="dumb")
    os.close(theirs)
    written = await shown(process, ours)
    assert await ended(process) == 0
    assert b"\x1b" not in written
    assert list(tmp_path.iterdir()) == []


async def test_ctrl_c_on_a_narrow_terminal(tmp_path: Path) -> None:
    ours, theirs = terminal(10)
    command = (sys.executable, "-m", "sandbox_bot")
    process = await start(command, tmp_path, stdout=theirs, stderr=theirs, TERM="xterm-256color")
    os.close(theirs)
    written = await shown(process, ours, until=b"migrated")
    assert await ended(process) == 130
    assert b"\x1b[?25l" in written, "a spinner"
    assert written.count(b"\x1b[?25h") >= written.count(b"\x1b[?25l"), "the cursor is shown again"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "draws"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "ACCESSIBLE": "1"}, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, True),
    ],
)
def test_where_a_spinner_turns(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], draws: bool
) -> None:
    for name in ("TERM", "ACCESSIBLE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ours, theirs = terminal(80)
    with os.fdopen(theirs, "w") as stream, Path("/dev/null").open("w") as file:
        assert can_draw(stream) == draws
        assert not can_draw(file)
    os.close(ours)
