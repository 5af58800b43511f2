"""Every command under every kind of standard stream: the documented exit code, and never a traceback."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import shlex
import struct
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from sandbox_bot.cli import app

from .conftest import ALICE, BOB, GUILD, Shell

BOX = "endings"
COMMANDS: dict[str, tuple[tuple[str, ...], int]] = {
    "create": (("create", BOX, "--owner", ALICE), 1),
    "list": (("list",), 0),
    "list --json": (("list", "--json"), 0),
    "status": (("status", BOX), 0),
    "status --json": (("status", BOX, "--json"), 0),
    "status of nothing": (("status", "no-such-one"), 1),
    "status of no text": (("status", "\udcff"), 1),
    "register-guild": (("register-guild", BOX, GUILD, "--yes"), 2),
    "unregister-guild": (("unregister-guild", GUILD), 1),
    "extend": (("extend", BOX, "1m"), 0),
    "reset": (("reset", BOX, "--yes"), 0),
    "reset --json": (("reset", BOX, "--yes", "--json"), 0),
    "reset of nothing": (("reset", "no-such-one", "--yes"), 1),
    "create --template": (("create", "x-1", "--owner", ALICE, "--template", "../x"), 1),
    "share": (("share", BOX, BOB, "--unchecked"), 0),
    "share --json": (("share", BOX, BOB, "--unchecked", "--json"), 0),
    "share to use": (("share", BOX, BOB, "--use", "--unchecked"), 1),
    "unshare of nobody": (("unshare", BOX, GUILD), 1),
    "destroy": (("destroy", "no-such-one", "--yes", "--json"), 1),
    "connect": (("connect", BOX), 0),
    "exec": (("exec", BOX, "--", "true"), 0),
    "exec of nothing": (("exec", BOX, "--", "no-such-program"), 127),
    "events emit": (("events", "emit", BOX, "MESSAGE_CREATE"), 1),
    "events emit of no text": (("events", "emit", BOX, "\udcff"), 1),
    "events emit --list": (("events", "emit", "--list"), 0),
    "events emit --help": (("events", "emit", "--help"), 0),
    "events replay": (("events", "replay", BOX, "1"), 1),
    "events replay of nothing": (("events", "replay", BOX, "--since", "5m", "--speed", "max"), 0),
    "events replay --help": (("events", "replay", "--help"), 0),
    "record": (("record", "stop", BOX, "no-such-one"), 1),
    "recordings list": (("recordings", "list"), 0),
    "recordings list --json": (("recordings", "list", "--json"), 0),
    "recordings show": (("recordings", "show", "no-such-one"), 1),
    "recordings export": (("recordings", "export", "no-such-one"), 1),
    "recordings delete": (("recordings", "delete", "no-such-one", "--yes"), 1),
    "psql": (("psql", "--", "-c", "SELECT broken"), 1),
    "cleanup": (("cleanup",), 0),
    "cleanup --json": (("cleanup", "--json"), 0),
    "orphans": (("orphans",), 0),
    "audit": (("audit", BOX), 0),
    "audit --json": (("audit", BOX, "--json"), 0),
    "doctor": (("doctor",), 0),
    "doctor --json": (("doctor", "--json"), 0),
    "migrate": (("migrate",), 0),
    "tenant-nats": (("tenant-nats", "--slots", "1"), 2),
    "run": (("run",), 2),
    "version": (("--version",), 0),
    "help": (("--help",), 0),
    "no such command": (("no-such-command",), 2),
}
# One of each kind where each command by itself would show nothing new.
SOME = (
    "list",
    "list --json",
    "status of nothing",
    "doctor",
    "help",
    "no such command",
    "exec of nothing",
    "run",
)
HELPS = {f"{name} --help": ((name, "--help"), 0) for name in typer.main.get_command(app).commands}  # type: ignore[attr-defined]
ALL = COMMANDS | HELPS
SILENT = {"exec", "exec of nothing", "psql"}
every = pytest.mark.parametrize("words", ALL)


@pytest.fixture(scope="module", autouse=True)
async def box(shell: Shell) -> AsyncIterator[None]:
    await shell.ok("create", BOX, "--owner", ALICE)
    yield
    await shell.ok("destroy", BOX, "--yes")


async def run(
    shell: Shell, words: str, *, stdout: int | None = None, stderr: int | None = None, **env: str
) -> tuple[int, bytes, bytes]:
    streams = {number: given for number, given in ((1, stdout), (2, stderr)) if given is not None}
    async with asyncio.timeout(60):
        process = await shell.having(**env).start(*ALL[words][0], streams=streams)
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in out + err
    return process.returncode, out, err


@contextmanager
def unread() -> Iterator[int]:
    """A pipe that nobody reads."""
    ours, theirs = os.pipe()
    os.close(ours)
    yield theirs
    os.close(theirs)


@every
async def test_the_code_and_where_the_words_go(shell: Shell, words: str) -> None:
    code, out, err = await run(shell, words)
    assert code == ALL[words][1]
    if words not in {"psql"}:
        assert bool(out) == (code == 0 and words not in SILENT)
    assert bool(err) == (code != 0)


@every
async def test_a_full_disk(shell: Shell, words: str) -> None:
    with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 (a device)
        code, _, err = await run(shell, words, stdout=full.fileno())
        says = ALL[words][1] == 0 and words not in SILENT
        assert code == (1 if says else ALL[words][1])
        if says:
            assert err.endswith(b"Standard output can't be written: No space left on device.\n")
        assert (await run(shell, words, stderr=full.fileno()))[0] == ALL[words][1]


@every
async def test_nobody_reads(shell: Shell, words: str) -> None:
    says = ALL[words][1] == 0 and words not in SILENT
    with unread() as pipe:
        assert (await run(shell, words, stdout=pipe))[0] == (141 if says else ALL[words][1])
    with unread() as pipe:
        assert (await run(shell, words, stderr=pipe))[0] == ALL[words][1]


@pytest.mark.parametrize("words", SOME)
async def test_colours_and_terminals_that_can_not(shell: Shell, words: str) -> None:
    for settings in ({"FORCE_COLOR": "1"}, {"TERM": "dumb"}, {"ACCESSIBLE": "1"}, {"COLUMNS": "10"}):
        code, _, err = await run(shell, words, **settings)
        assert code == ALL[words][1], settings
        # No spinner; and colours only in what the library says of wrong usage, where FORCE_COLOR asks for it.
        assert b"\x1b[?" not in err, settings
        assert b"\x1b" not in err or code == 2, settings


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(("term", "columns"), [("xterm-256color", 10), ("dumb", 1)])
async def test_narrow_and_plain_terminals(shell: Shell, words: str, term: str, columns: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    streams = dict.fromkeys(range(3), theirs)
    process = await shell.having(TERM=term).start(*ALL[words][0], streams=streams)
    os.close(theirs)
    written = await asyncio.to_thread(_all_of, ours)
    async with asyncio.timeout(60):
        assert await process.wait() == ALL[words][1]
    os.close(ours)
    assert b"Traceback" not in written
    if term == "dumb":
        assert b"\x1b[" not in written


def _all_of(terminal: int) -> bytes:
    written = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            # Linux's answer when the other end is closed.
            return written
        if not chunk:
            return written
        written += chunk


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-"])
@pytest.mark.parametrize("words", [*SOME, "status of no text"])
async def test_closed_streams(shell: Shell, words: str, closed: str) -> None:
    arguments = " ".join(shlex.quote(word) for word in ALL[words][0])
    if words == "status of no text":
        arguments = 'status "$(printf "\\377")"'
    # What an interpreter of its own makes of them is the same for each: see test_endings.py.
    ended = await shell.script(f"sandboxctl {arguments} {closed}")
    assert ended.code == ALL[words][1]
    assert ended.out == ""
