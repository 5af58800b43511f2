"""`sandboxctl doctor --isolation` as a process: what it shows, writes and ends with."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from tests.cli.schemas import check
from tests.conftest import ROOT
from tests.forked import ForkedProcess, start_forked

from .test_proof import nothing_is_left
from .test_proof_ends import let_expire

NOBODY = "127.0.0.1:1"


class Doctor:
    """Runs it with the settings of an operator."""

    def __init__(self, closed: EmbeddedServers, home: Path) -> None:
        settings = {
            "database_url": closed.database_url,
            "redis_url": closed.redis_url,
            "nats_url": closed.nats_url,
            "sandbox_isolation": "enforced",
            **closed.tenant_settings,
        }
        self.settings = {name.upper(): value for name, value in settings.items()}
        self._home = home

    async def start(
        self, *words: str, streams: Mapping[int, int] = MappingProxyType({}), **changed: str
    ) -> ForkedProcess:
        return await start_forked(
            *("doctor", "--isolation", *words),
            directory=self._home,
            environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **self.settings, **changed},
            own_stderr=True,
            streams=streams,
        )

    async def __call__(self, *words: str, **changed: str) -> tuple[int | None, str, str]:
        process = await self.start(*words, **changed)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        text = out.decode() + err.decode()
        assert "Traceback" not in text
        for value in self.settings.values():
            assert not ("://" in value and "@" in value and value in text)
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def doctor(core: Core, closed: EmbeddedServers, tmp_path: Path) -> AsyncIterator[Doctor]:
    yield Doctor(closed, tmp_path)
    await nothing_is_left(core)


async def test_all_is_denied(doctor: Doctor, closed: EmbeddedServers) -> None:
    code, out, err = await doctor()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["SERVER", "WHERE", "ATTACKS", "DENIED", "STATE"]
    for server, port in (
        ("PostgreSQL (sandboxes)", closed.postgres.port),
        ("Redis (sandboxes)", closed.tenant_valkey.port),
        ("NATS (sandboxes)", closed.tenant_nats.port),
    ):
        (row,) = (line for line in lines if line.startswith(server))
        assert f"127.0.0.1:{port}" in row
        assert row.endswith("  ok")
    assert "possible by design" in out
    assert "A role may change its own defaults and password" in out
    assert lines[-1].startswith("Isolated: All ")


async def test_as_json(doctor: Doctor) -> None:
    code, out, err = await doctor("--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    check("doctor --isolation", answer)
    assert answer["ok"]
    assert answer["tried"] == answer["denied"] > 350
    results = [each["result"] for server in answer["servers"] for each in server["attacks"]]
    assert results.count("denied") == answer["denied"]
    assert results.count("possible") == answer["possible"]
    assert answer["seconds"] < 10


async def test_a_weakened_server(doctor: Doctor, admin: asyncpg.Connection) -> None:
    statement = "ALTER DEFAULT PRIVILEGES FOR ROLE sandbox {} USAGE ON SCHEMAS {} PUBLIC"
    await admin.execute(statement.format("GRANT", "TO"))
    await admin.execute("ALTER DEFAULT PRIVILEGES FOR ROLE sandbox GRANT SELECT ON TABLES TO PUBLIC")
    try:
        code, out, err = await doctor()
        json_code, as_json, _ = await doctor("--json")
    finally:
        await admin.execute(statement.format("REVOKE", "FROM"))
        await admin.execute("ALTER DEFAULT PRIVILEGES FOR ROLE sandbox REVOKE SELECT ON TABLES FROM PUBLIC")
    assert (code, json_code, err) == (1, 1, "")
    (found,) = (line for line in out.splitlines() if "  read a table  " in line)
    assert found.split("  ")[0] == "PostgreSQL (sandboxes)"
    assert found.endswith("the server did it, with a list of 1")
    assert "not denied" in out
    assert out.splitlines()[-1].startswith("Not isolated: ")
    answer = json.loads(as_json)
    check("doctor --isolation", answer)
    failed = [
        each for server in answer["servers"] for each in server["attacks"] if each["result"] == "failed"
    ]
    assert len(failed) == answer["tried"] - answer["denied"] > 3
    assert "treasure" not in out + as_json


async def test_by_convention(doctor: Doctor) -> None:
    code, out, err = await doctor(SANDBOX_ISOLATION="convention")
    assert (code, err) == (1, "")
    assert out.strip() == (
        "Nothing is enforced: Sandboxes keep apart by convention (SANDBOX_ISOLATION), and nothing was tried."
    )
    code, out, _ = await doctor("--json", SANDBOX_ISOLATION="convention")
    answer = json.loads(out)
    check("doctor --isolation", answer)
    assert (code, answer["ok"], answer["isolation"], answer["servers"]) == (1, False, "convention", [])


@pytest.mark.parametrize(
    ("variable", "scheme", "title"),
    [
        ("SANDBOX_DATABASE_URL", "postgresql", "PostgreSQL (sandboxes)"),
        ("SANDBOX_REDIS_URL", "redis", "Redis (sandboxes)"),
        ("SANDBOX_NATS_URL", "nats", "NATS (sandboxes)"),
    ],
)
async def test_a_server_that_is_away(doctor: Doctor, variable: str, scheme: str, title: str) -> None:
    login = "" if scheme == "nats" else "bot:x@"
    code, out, err = await doctor(**{variable: f"{scheme}://{login}{NOBODY}"})
    assert (code, err) == (3, "")
    assert out.splitlines()[-1] == f"Not proven: {title} at {NOBODY} did not answer."
    assert "away" in out


async def test_with_the_bots_database_away(doctor: Doctor) -> None:
    code, out, err = await doctor(DATABASE_URL=f"postgresql://bot:x@{NOBODY}/sandbox")
    assert (code, out) == (3, "")
    assert err.startswith("SANDBOX_012: ")
    assert NOBODY in err


async def test_a_wrong_setting(doctor: Doctor) -> None:
    code, out, err = await doctor(SANDBOX_ISOLATION="perhaps")
    assert (code, out) == (2, "")
    assert "SANDBOX_ISOLATION" in err


async def test_interrupted(doctor: Doctor, core: Core) -> None:
    process = await doctor.start()
    async with asyncio.timeout(30):
        while not await core.manager.list():
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        await process.communicate()
    assert process.returncode == 130
    assert await core.manager.list() == []


async def test_killed(doctor: Doctor, core: Core) -> None:
    process = await doctor.start()
    async with asyncio.timeout(30):
        while len(await core.manager.list()) < 2:
            await asyncio.sleep(0.01)
    process.kill()
    await process.communicate()
    await let_expire(core)
    async with asyncio.timeout(20):
        while await core.manager.list():
            await core.cleanup.cleanup_expired()


async def test_on_a_terminal(doctor: Doctor) -> None:
    ours, theirs = pty.openpty()
    process = await doctor.start(streams={1: theirs}, TERM="xterm-256color", COLUMNS="120")
    os.close(theirs)
    written = b""
    async with asyncio.timeout(60):
        while True:
            try:
                chunk = await asyncio.to_thread(os.read, ours, 65536)
            except OSError:
                # Linux's answer when the other end is closed.
                break
            if not chunk:
                break
            written += chunk
        await process.communicate()
    os.close(ours)
    text = written.decode()
    assert process.returncode == 0
    assert "\x1b[32mok" in text
    assert "\x1b[34m" in text
    assert "\x1b[32mIsolated: All " in text
    # Without the colours no line is wider than the terminal.
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert max(len(line) for line in shown.splitlines()) <= 120
