"""How commands end: the exit code of each class, one line on standard error, and nothing secret in it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from typer.testing import CliRunner

from sandbox_bot.cli import app

from .conftest import ALICE, NOBODY_LISTENS, Shell
from .schemas import check


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("status", "no-such-one"), "SANDBOX_004"),
        (("connect", "no'such; one"), "SANDBOX_004"),
        (("audit", "no-such-one", "--json"), "SANDBOX_004"),
        (("create", "Upper", "--owner", ALICE), "SANDBOX_007"),
        (("create", "--owner", ALICE, "--ttl", "soon"), "SANDBOX_007"),
        (("unregister-guild", "100000000000000001"), "SANDBOX_011"),
        (("unregister-guild", "12"), "SANDBOX_007"),
    ],
)
async def test_refusals(shell: Shell, arguments: tuple[str, ...], code: str) -> None:
    refused = await shell(*arguments)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(f"{code}: ")
    assert refused.err.count("\n") == 1
    if code == "SANDBOX_011":
        assert f"`sandboxctl register-guild NAME {arguments[1]}`" in refused.err
    # The way out is this shell's, not Discord's.
    assert "/sandbox" not in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such-command",), "No such command"),
        (("create",), "--owner"),
        (("create", "--owner", "alice"), "17 to 20 digits"),
        (("status",), "NAME"),
        (("destroy", "--yes"), "NAME"),
        (("destroy", "--all", "--yes"), "--owner"),
        (("orphans", "--unknown"), "--fix"),
        (("list", "--status", "asleep"), "asleep"),
        # Questions that nobody can answer.
        (("destroy", "anything"), "--yes"),
        (("orphans", "--fix"), "--yes"),
        (("register-guild", "anything", "100000000000000001"), "--yes"),
        (("create", "--owner", ALICE, "--guild", "100000000000000001"), "--yes"),
    ],
)
def test_wrong_usage(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    # In this process: each ends before or soon after its settings are read.
    for name in ("DATABASE_URL", "REDIS_URL", "NATS_URL"):
        monkeypatch.setenv(name, shell.env[name])
    monkeypatch.chdir(shell.home)
    wrong = CliRunner().invoke(app, arguments)
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert said in wrong.stderr


async def test_settings_are_named_and_never_shown(shell: Shell) -> None:
    wrong = await shell.having(REDIS_URL="redis:///hunter2", NATS_URL=None)("list")
    assert (wrong.code, wrong.out) == (2, "")
    assert {line.split()[0] for line in wrong.err.splitlines()} == {"REDIS_URL", "NATS_URL"}
    assert "hunter2" not in wrong.err


async def test_postgresql_away(shell: Shell) -> None:
    away = shell.having(DATABASE_URL=f"postgresql://sandbox:hunter2@{NOBODY_LISTENS}/sandbox")
    for arguments in (("list", "--json"), ("status", "x"), ("doctor",), ("migrate",)):
        ended = await away(*arguments)
        assert ended.code == 3
        assert "hunter2" not in ended.out + ended.err
    assert (await away("list")).err.startswith("SANDBOX_012: PostgreSQL is unavailable")


async def test_a_table_that_somebody_has_locked(shell: Shell) -> None:
    address = urlsplit(shell.env["DATABASE_URL"])
    where = f"{address.hostname}:{address.port}"
    held = await asyncpg.connect(shell.env["DATABASE_URL"])
    async with held.transaction():
        await held.execute("LOCK TABLE sandboxes IN ACCESS EXCLUSIVE MODE")
        ended = await shell("list")
        found = await shell("doctor")
    await held.close()
    locked = "a statement took too long: another session may hold a lock on what it needs"
    assert ended.err.startswith(f"SANDBOX_012: PostgreSQL answers at {where}, but {locked}.")
    assert (ended.code, found.code) == (3, 1)
    assert locked in " ".join(found.out.split())
    assert "pg_locks" in found.out
    assert "Start it" not in found.out


async def test_postgresql_that_never_answers(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        ended = await shell.having(DATABASE_URL=f"postgresql://sandbox:x@127.0.0.1:{port}/sandbox")("list")
    assert ended.code == 3
    assert ended.err.startswith("SANDBOX_012: PostgreSQL is unavailable")


async def test_a_database_without_migrations(fresh_shell: Shell) -> None:
    missing = await fresh_shell("list")
    assert (missing.code, missing.out) == (3, "")
    assert "`sandboxctl migrate`" in missing.err
    found = await fresh_shell("doctor", "--json")
    assert found.code == 1
    check("doctor", found.json)
    assert [each["commands"] for each in found.json["checks"] if each["state"] == "failed"] == [
        ["sandboxctl migrate"]
    ]
    for _ in range(2):
        migrated = await fresh_shell.ok("migrate", "--json")
        check("migrate", migrated.json)
    assert (await fresh_shell.ok("list")).out == "NAME  ID  OWNER  STATUS  SERVERS  LEVEL  BOTS  ENDS\n"
    assert (await fresh_shell.ok("list", "--json")).json == {"sandboxes": []}
    assert (await fresh_shell.ok("doctor", "--json")).json["ok"]


async def test_doctor_names_what_is_away(shell: Shell) -> None:
    nats_away = await shell.having(NATS_URL=f"nats://{NOBODY_LISTENS}")("doctor", "--json")
    assert nats_away.code == 3
    check("doctor", nats_away.json)
    away = [each for each in nats_away.json["checks"] if each["state"] == "away"]
    assert [each["area"] for each in away] == ["NATS"]
    assert "NATS_URL" in away[0]["mend"]
    assert away[0]["where"] == NOBODY_LISTENS
    settings = await shell.having(NATS_URL=None)("doctor")
    assert settings.code == 2
    assert "NATS_URL is not set" in settings.out
    assert ".." not in settings.out


async def test_doctor_notes_a_misspelt_setting_and_promises_no_more_than_it_looked_at(shell: Shell) -> None:
    looked = await shell.having(NATS_EVENT_STREAM="x", SANDBOX_CONTROL_SCHEME="x")("doctor")
    assert looked.code == 0
    for name, setting in (
        ("NATS_EVENT_STREAM", "NATS_EVENTS_STREAM"),
        ("SANDBOX_CONTROL_SCHEME", "SANDBOX_CONTROL_SCHEMA"),
    ):
        assert f"{name} in the environment is no setting: {setting} is probably meant.\n" in looked.out
        assert f"Rename it to {setting}, or take it out.\n" in looked.out
    # Without a token nothing can be registered.
    assert looked.out.endswith("\nThe servers are well. Discord was not checked.\n")


async def test_a_life_that_fails_several_times_has_the_highest_code(shell: Shell) -> None:
    await shell.ok("create", "stuck", "--owner", ALICE)
    failed = await shell.having(REDIS_URL=f"redis://{NOBODY_LISTENS}")("destroy", "stuck", "--yes", "--json")
    assert failed.code == 3
    check("destroy", failed.json)
    assert [each["code"] for each in failed.json["failed"]] == ["SANDBOX_006"]
    assert failed.err.startswith("SANDBOX_006: ")
    await shell.ok("destroy", "stuck", "--yes")


async def test_output_that_nobody_takes(shell: Shell) -> None:
    """A pipe closed by its reader, a full disk and closed streams: no traceback, and the right code."""
    await shell.ok("create", "unread", "--owner", ALICE)
    pipe = "set -o pipefail\nsandboxctl status unread --watch --interval 0.5 | head -n 1"
    read = await shell.script(pipe, program="bash")
    assert (read.code, read.err, read.out.split()) == (141, "", ["Name:", "unread"])
    for command in ("list", "list --json", "connect unread", "--version", "--help", "create --help"):
        full = await shell.script(f"sandboxctl {command} >/dev/full")
        assert (full.code, full.err) == (1, "Standard output can't be written: No space left on device.\n")
    # Closed streams also with an interpreter of its own, as it is what finds them closed.
    program = f"{sys.executable} -m sandbox_bot"
    for name, closed in ((program, ">&-"), ("sandboxctl", "<&- >&-"), (program, "<&- >&- 2>&-")):
        ended = await shell.script(f"{name} list --json {closed}")
        assert (ended.code, ended.out, ended.err) == (0, "", ""), closed
    colours = await shell.script("FORCE_COLOR=1 sandboxctl status no-such-one")
    assert (colours.code, colours.err.startswith("SANDBOX_004: ")) == (1, True)
    assert "\x1b" not in colours.err
    refused = await shell.script(f"{program} status no-such-one >&-")
    assert (refused.code, refused.err.startswith("SANDBOX_004: ")) == (1, True)
    await shell.ok("destroy", "unread", "--yes")


async def test_interrupting_while_it_loads_ends_without_a_traceback(shell: Shell, tmp_path: Path) -> None:
    """A module that takes for ever to load stands for those that take half a second."""
    (tmp_path / "typer.py").write_text("import signal\nprint('loading', flush=True)\nsignal.pause()\n")
    process = await shell.having(PYTHONPATH=str(tmp_path)).start_interpreter("list")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"loading\n"
    process.send_signal(signal.SIGINT)
    ended = await shell.ended(process)
    assert (ended.code, ended.out, ended.err) == (-signal.SIGINT, "", "")


async def test_interrupting_ends_without_a_word(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = await shell.having(DATABASE_URL=f"postgresql://x:x@127.0.0.1:{port}/x").start("list")
        silent.settimeout(60)
        # It connects, and from then on waits for an answer.
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            process.send_signal(2)
            ended = await shell.ended(process)
    assert (ended.code, ended.out, ended.err) == (130, "", "")
