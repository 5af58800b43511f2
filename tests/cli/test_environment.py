"""`connect` and `exec`: what a shell and a command really get, also when the values are hostile."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from dotenv import dotenv_values

from sandbox_bot.cli._environment import as_dotenv, as_exports, as_fish

from .conftest import ALICE, Shell

HOSTILE = (
    "it's; touch pwned #",
    "$(touch pwned)`touch pwned`${HOME}",
    "a\nexport SANDBOX_ID=other\ntouch pwned",
    "\"quoted\" \\ back\\\\slash '' & | > pwned",
    "-n --help *  ?  ~ ! 日本語",
    "",
)


@pytest.fixture
async def sandbox_id(shell: Shell, database: asyncpg.Connection) -> AsyncIterator[str]:
    made = (await shell.ok("create", "worker-box", "--owner", ALICE, "--json")).json["sandbox"]
    yield made["id"]
    await shell.ok("destroy", made["id"], "--yes")


async def rename(database: asyncpg.Connection, sandbox_id: str, name: str) -> None:
    """Give it a name that the core would never give: the shell must not rely on that."""
    await database.execute("ALTER TABLE sandboxes DROP CONSTRAINT IF EXISTS ck_sandboxes_name")
    await database.execute("UPDATE sandboxes SET name = $2 WHERE id = $1", sandbox_id, name)


@pytest.mark.parametrize("program", ["sh", "bash"])
async def test_eval_sets_exactly_the_values(
    shell: Shell, database: asyncpg.Connection, sandbox_id: str, program: str
) -> None:
    assert shutil.which(program)
    script = (
        # The choice of the tests' own is none of the command's.
        f'eval "$(sandboxctl connect {sandbox_id})" && unset SANDBOX_ISOLATION && '
        'env -0 | grep -z "^SANDBOX_" | tr "\\0" "\\1"'
    )
    for name in HOSTILE[:-1]:
        await rename(database, sandbox_id, name)
        ended = await shell.script(script, program=program)
        assert (ended.code, ended.err) == (0, "")
        got = dict(pair.split("=", 1) for pair in ended.out.strip("\1").split("\1"))
        assert (got["SANDBOX_NAME"], got["SANDBOX_ID"]) == (name, sandbox_id)
        assert len(got) == 6
    assert not (shell.home / "pwned").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("status", "x"),
        ("create", "x", "--owner", ALICE),
        ("connect", "x"),
        ("rotate", "x"),
        ("exec", "x", "--", "true"),
        ("psql", "--", "-c", "SELECT 1"),
        ("deadletters", "x"),
        ("events", "emit", "x", "MESSAGE_CREATE"),
        ("orphans",),
        ("cleanup",),
        ("audit", "x"),
        ("doctor",),
        ("migrate",),
        ("run",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("there", ["127.0.0.1:1", ""], ids=["away", "there"])
async def test_a_shell_of_a_sandbox_is_told_apart(
    shell: Shell, arguments: tuple[str, ...], there: str
) -> None:
    """After `eval "$(sandboxctl connect …)"`, whether the login would be refused or not."""
    host = there or urlsplit(shell.env["DATABASE_URL"]).netloc.rsplit("@", 1)[-1]
    inside = shell.having(
        SANDBOX_ID="0a1b2c3d-0000-4000-8000-000000000000",
        DATABASE_URL=f"postgresql://sandbox_0a1b2c3d:hidden@{host}/tenants",
    )
    ended = await inside(*arguments)
    said = ended.err + ended.out
    assert ended.code == 2
    assert "DATABASE_URL has the login of a sandbox, as `sandboxctl connect` prints it" in said
    assert "another shell" in said
    assert "Traceback" not in said


async def test_a_refused_connect_leaves_the_shell_as_it_was(shell: Shell) -> None:
    ended = await shell.script('eval "$(sandboxctl connect nope)"; echo "[$SANDBOX_ID]"')
    assert ended.out == "[]\n"
    assert ended.err.startswith("SANDBOX_004: ")


async def test_exec_runs_with_the_environment_and_passes_on_the_code(
    shell: Shell, database: asyncpg.Connection, sandbox_id: str
) -> None:
    await rename(database, sandbox_id, HOSTILE[0])
    show = 'printf "%s|%s" "$SANDBOX_NAME" "$1"; exit 7'
    ended = await shell("exec", sandbox_id, "--", "sh", "-c", show, "sh", "--json --yes")
    assert (ended.code, ended.out) == (7, f"{HOSTILE[0]}|--json --yes")
    # Options after the name are the command's, with and without the two dashes.
    assert (await shell("exec", sandbox_id, "sh", "-c", "exit 3")).code == 3
    late = await shell("exec", sandbox_id, "--token-variable", "BOT_TOKEN", "--", "true")
    assert (late.code, late.out) == (2, "")
    assert "exec --token-variable … NAME" in late.err
    killed = await shell("exec", sandbox_id, "--", "sh", "-c", "kill -TERM $$")
    assert killed.code == -15
    assert (await shell("exec", sandbox_id, "--", "no-such-program")).code == 127
    plain_file = Path(shell.home, "not-executable")
    plain_file.write_text("")
    assert (await shell("exec", sandbox_id, "--", str(plain_file))).code == 126


async def test_exec_gets_the_servers_that_only_a_file_names(shell: Shell, sandbox_id: str) -> None:
    names = ("DATABASE_URL", "REDIS_URL", "NATS_URL")
    dotenv = Path(shell.home, ".env")
    lines = [f"{name}={shell.env[name]}" for name in names]
    dotenv.write_text("\n".join([*lines, "DISCORD_TOKEN=the-bots-token", "OPS_PORT=1"]))
    bare = shell.having(**dict.fromkeys(names))
    show = "import os, sys; sys.exit(0 if all(os.environ[n] == v for n, v in zip(*eval(sys.argv[1]))) else 9)"
    try:
        wanted = repr((names, [shell.env[name] for name in names]))
        ended = await bare("exec", sandbox_id, "--", sys.executable, "-c", show, wanted)
        assert (ended.code, ended.err) == (0, "")
        found = await bare(
            "exec", sandbox_id, "--", "sh", "-c", 'echo "$DISCORD_TOKEN|$OPS_PORT|$SANDBOX_ID"'
        )
        assert found.out == f"||{sandbox_id}\n"
    finally:
        dotenv.unlink()


async def test_exec_says_that_a_bot_would_connect_to_discord_itself(shell: Shell, sandbox_id: str) -> None:
    """By convention, without a key for tokens."""
    inside = shell.having(DISCORD_TOKEN="real")
    ended = await inside("exec", sandbox_id, "--", "sh", "-c", 'echo "$DISCORD_TOKEN"')
    assert (ended.code, ended.out) == (0, "real\n")
    assert ended.err.startswith("Note: SANDBOX_CREDENTIALS_KEY is not set")
    assert "connects to Discord itself" in ended.err


async def test_exec_hands_over_the_nats_server_of_the_sandboxes(shell: Shell, sandbox_id: str) -> None:
    own = shell.having(SANDBOX_NATS_URL="nats://127.0.0.1:1")
    found = await own("exec", sandbox_id, "--", "sh", "-c", 'echo "$NATS_URL"')
    assert (found.code, found.out) == (0, "nats://127.0.0.1:1\n")


async def test_psql_works_in_the_right_schema_and_shows_no_password(shell: Shell, sandbox_id: str) -> None:
    rows = "SELECT count(*) FROM sandboxes"
    assert int((await shell.ok("psql", "--", "-tAc", rows)).out) >= 1
    assert int((await shell.ok("psql", "-tAc", rows)).out) >= 1
    schema = await shell.ok("psql", "--sandbox", sandbox_id, "--", "-tAc", "SELECT current_schema()")
    assert schema.out == f"sandbox_{sandbox_id[:8]}\n"
    # Its command line, as everybody on the machine can read it.
    line = await shell.ok("psql", "--", "-tAc", r"\! tr '\0' ' ' </proc/$PPID/cmdline")
    assert "psql -tAc" in line.out
    password = urlsplit(shell.env["DATABASE_URL"]).password
    assert password
    assert password not in line.out
    assert (await shell.having(PATH="/nonexistent")("psql")).code == 127
    assert (await shell("psql", "--sandbox", "no-such-one")).code == 1


@pytest.mark.parametrize("value", HOSTILE)
def test_exports_are_read_back_exactly(value: str) -> None:
    (line,) = [as_exports({"NAME": value})]
    assert shlex.split(line) == ["export", f"NAME={value}"]


@pytest.mark.parametrize("value", [value for value in HOSTILE if "${" not in value])
def test_dotenv_files_are_read_back_exactly(tmp_path: Path, value: str) -> None:
    # A reader of .env files may replace `${HOME}`, whatever the quotes; our values have no `$`.
    path = tmp_path / ".env"
    path.write_text(as_dotenv({"NAME": value, "OTHER": "a:b,c.d"}))
    assert dotenv_values(path) == {"NAME": value, "OTHER": "a:b,c.d"}
    assert "OTHER=a:b,c.d\n" in path.read_text()


@pytest.mark.parametrize("value", HOSTILE)
def test_fish_gets_one_single_quoted_word(value: str) -> None:
    # https://fishshell.com/docs/current/language.html#quotes
    line = as_fish({"NAME": value})
    quoted = re.fullmatch(r"set -gx NAME '((?:[^'\\]|\\['\\])*)'\n", line, re.DOTALL)
    assert quoted is not None
    assert re.sub(r"\\(['\\])", r"\1", quoted[1]) == value
