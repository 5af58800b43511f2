"""A worker's `SandboxContext`, and the programs of the command line, with the sandbox's own logins."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.context import SandboxContext, environment
from sandbox_core.settings import Settings
from tests.conftest import ROOT
from tests.forked import start_forked

from .conftest import ALICE, LOGINS, Held, settings_of
from .gateway import publishing
from .test_life import both_refused


async def test_a_worker_uses_them_unmodified(core: Core, mine: Held, enforced: Settings) -> None:
    variables = environment(mine.sandbox) | dict(mine.variables)
    # The sandboxes' NATS server asks a bot who may log in.
    async with publishing(enforced), SandboxContext.from_env(variables) as context:
        async with context.pool.acquire() as connection:
            await connection.execute(
                "INSERT INTO communities (guild_id, name) VALUES ($1, $2)", "1" * 18, "x"
            )
            assert await connection.fetchval("SELECT settings FROM communities") == {}
        await context.redis.set("greeting", "hello")
        assert await context.redis.get("greeting") == "hello"
        async with context.redis.pipeline() as pipeline:
            assert await pipeline.incr("count").expire("count", 60).execute() == [1, True]
        async with context.redis.pubsub() as pubsub:
            await pubsub.subscribe("news")
            await pubsub.get_message(timeout=5)
            await context.redis.publish("news", "told")
            message = await pubsub.get_message(timeout=5)
            assert message is not None
            assert message["data"] == "told"
    async with mine.redis() as redis:
        assert await redis.get(f"{mine.prefix}greeting") == "hello"


async def run(closed: EmbeddedServers, home: Path, *words: str) -> tuple[int, str, str]:
    """Run `sandboxctl` as the operator does."""
    settings = {
        name.upper(): value
        for name, value in {
            "database_url": closed.database_url,
            "redis_url": closed.redis_url,
            "nats_url": closed.nats_url,
            "sandbox_isolation": "enforced",
            **closed.tenant_settings,
        }.items()
    }
    process = await start_forked(
        *words,
        directory=home,
        environment={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DISCORD_TOKEN": "the-bots",
            **settings,
        },
        own_stderr=True,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_line_shows_and_rotates(
    core: Core, mine: Held, closed: EmbeddedServers, tmp_path: Path
) -> None:
    code, out, err = await run(closed, tmp_path, "connect", "mine", "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert {name: shown[name] for name in mine.variables} == dict(mine.variables)
    for form, begins in (("sh", "export "), ("dotenv", ""), ("fish", "set -gx ")):
        _, out, _ = await run(closed, tmp_path, "connect", "mine", "--format", form)
        assert any(line.startswith(f"{begins}REDIS_URL") for line in out.splitlines())
        assert mine.variables["DATABASE_URL"] in out

    code, out, err = await run(closed, tmp_path, "rotate", "mine")
    assert code == 0
    assert "mine has new credentials" in out
    await both_refused(mine)
    _, again, _ = await run(closed, tmp_path, "connect", "mine", "--json")
    assert json.loads(again)["REDIS_URL"] != shown["REDIS_URL"]
    for text in (out, err):
        assert not any(value in text for value in json.loads(again).values() if "://" in value)


async def test_exec_gives_a_worker_nothing_of_the_bots(
    core: Core, mine: Held, closed: EmbeddedServers, tmp_path: Path
) -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    code, out, err = await run(closed, tmp_path, "exec", "mine", "--", sys.executable, "-c", program)
    assert code == 0
    # Of the endpoint for ordinary bots, which does not run here, and of the servers that it has none of.
    assert [line for line in err.splitlines() if not line.startswith("Note: ")] == []
    given = json.loads(out)
    assert {name: given[name] for name in mine.variables} == dict(mine.variables)
    secrets = {*closed.tenant_settings.values(), closed.database_url, closed.redis_url, "the-bots"}
    assert not secrets & set(given.values())
    assert not any(name.startswith("SANDBOX_") and name.endswith(("_URL", "_KEY")) for name in given)


async def test_psql_logs_in_as_the_sandbox(
    core: Core, mine: Held, closed: EmbeddedServers, tmp_path: Path
) -> None:
    code, out, _ = await run(
        closed, tmp_path, "psql", "--sandbox", "mine", "--", "-Atc", "SELECT current_user"
    )
    if code == 127:
        pytest.skip("psql is not installed")
    assert (code, out.strip()) == (0, mine.schema)


async def test_upgrade_from_convention_with_a_live_sandbox(closed: EmbeddedServers, core: Core) -> None:
    from .conftest import opened

    conventional = settings_of(
        closed,
        sandbox_isolation="convention",
        sandbox_database_url=None,
        sandbox_redis_url=None,
        sandbox_nats_url=None,
        sandbox_credentials_key=None,
    )
    async with opened(conventional) as before:
        old = (await before.manager.create(ALICE, name="old")).sandbox
        assert before.manager.credentials(old) == {}
        await before.redis.set(f"sandbox:{old.id}:x", "x")

    # The bot has been started anew, with isolation enforced.
    assert not LOGINS & core.manager.credentials(old).keys()
    health = await core.manager.health("old")
    assert [part.state for part in health.parts[:3]] == ["healthy", "healthy", "healthy"]
    assert health.parts[1].facts["keys"] == 1
    assert await core.cleanup.keep_credentials() == []
    assert (await core.cleanup.find_orphaned_resources()).degraded == ()
    new = (await core.manager.create(ALICE, name="new")).sandbox
    assert core.manager.credentials(new).keys() >= LOGINS
    await core.manager.destroy(ALICE, "old")
    control = await asyncpg.connect(closed.database_url)
    assert await control.fetchval("SELECT to_regnamespace($1)", old.schema_name) is None
    await control.close()
    assert await core.redis.get(f"sandbox:{old.id}:x") is None

    # And back again: what was made with credentials keeps them, and can be removed.
    async with opened(settings_of(closed, sandbox_isolation="convention")) as after:
        assert after.manager.credentials(new) == core.manager.credentials(new)
        plain = (await after.manager.create(ALICE, name="plain")).sandbox
        assert plain.generation == 0
        assert (await after.manager.health("plain")).parts[0].state == "healthy"
        await after.manager.destroy(ALICE, "plain")
    async with opened(conventional) as lost:
        with pytest.raises(Exception, match="SANDBOX_006"):
            await lost.manager.destroy(ALICE, "new")
    await core.manager.destroy(ALICE, "new")
