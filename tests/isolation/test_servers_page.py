"""Sandboxes are kept apart with exactly what docs/servers.md has an administrator do."""

from __future__ import annotations

import shlex

import asyncpg
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from tests.docs.markdown import ROOT, blocks

from .conftest import ALICE, held, hold, opened, settings_of
from .test_life import both_refused, both_work

PAGE = blocks(ROOT / "docs" / "servers.md")
KEEPER = "sandbox_keeper:choose-one"


async def test_the_page_is_enough(closed: EmbeddedServers) -> None:
    outside, inside, more = [
        block.text
        for block in PAGE
        if "sandbox_keeper" in block.text or "ON SCHEMA public FROM PUBLIC" in block.text
        if block.language == "sql"
    ]
    postgres = f"127.0.0.1:{closed.postgres.port}"
    admin = await asyncpg.connect(closed.postgres.admin_url)
    root = Redis.from_url(closed.tenant_valkey.url)
    try:
        for text in (outside, more):
            for statement in text.replace("tenants", "others").split(";\n"):
                if statement.strip():
                    await admin.execute(statement)
        there = await asyncpg.connect(closed.postgres.admin_url.removesuffix("/postgres") + "/others")
        await there.execute(inside)
        await there.close()
        lines = [block.text for block in PAGE if block.language == "redis"][1].splitlines()
        for line in lines:
            await root.execute_command(*shlex.split(line))
        settings = settings_of(
            closed,
            sandbox_database_url=f"postgresql://{KEEPER}@{postgres}/others",
            sandbox_redis_url=f"redis://{KEEPER}@127.0.0.1:{closed.tenant_valkey.port}/0",
        )
        async with opened(settings) as core:
            mine = await hold(core, "mine")
            await both_work(mine)
            assert all(part.state == "healthy" for part in (await core.manager.health("mine")).parts[:2])
            rotated = held(core, (await core.manager.rotate(ALICE, "mine")).sandbox)
            await both_refused(mine)
            await both_work(rotated)
            await core.manager.extend(ALICE, "mine", "1h")
            assert await core.cleanup.keep_credentials() == []
            await core.manager.destroy(ALICE, "mine")
            await both_refused(rotated)
            report = await core.cleanup.find_orphaned_resources()
            assert (report.orphans, report.unreadable) == ((), {})
    finally:
        await root.execute_command("ACL DELUSER", "sandbox_keeper")
        await root.aclose()
        await admin.execute("DROP DATABASE IF EXISTS others WITH (FORCE)")
        await admin.execute("DROP OWNED BY sandbox_keeper; DROP ROLE sandbox_keeper")
        await admin.close()
