"""The process dies with SIGKILL while it shares a sandbox, or takes that back: another one finishes it."""

from __future__ import annotations

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.postgres.errors import DRIVER_ERRORS

from .conftest import ALICE, hold
from .test_deaths import ENDING, Lived, all_refused, all_work, die, ended
from .test_sharing import guest, nothing_left, roles_of, shared, users_of

SHARING = [("share:stored", 1), *(("rotate:made", number) for number in (1, 2, 3))]


@pytest.mark.parametrize(("point", "time"), SHARING)
async def test_while_it_shares(bot: Core, closed: EmbeddedServers, point: str, time: int) -> None:
    mine = await hold(bot, "mine")
    await die(closed, "share", point, time)
    his = guest(bot, await bot.manager.get("mine"))
    await bot.cleanup.keep_credentials()
    await all_work(his)
    await all_work(mine)
    assert await bot.cleanup.keep_credentials() == []


@pytest.mark.parametrize(("point", "time"), SHARING)
async def test_while_it_takes_that_back(
    bot: Core, closed: EmbeddedServers, admin: asyncpg.Connection, point: str, time: int
) -> None:
    mine = await hold(bot, "mine")
    his = await shared(bot)
    lived = Lived(his)
    await lived.begin()
    await die(closed, "unshare", point, time)
    await bot.cleanup.keep_credentials()
    await lived.ends()
    await all_refused(his)
    await all_work(mine)
    await nothing_left(bot, admin, mine.sandbox)
    assert await bot.cleanup.keep_credentials() == []


async def test_between_the_steps_on_postgresql(bot: Core, admin: asyncpg.Connection) -> None:
    """First every role of the sandbox is shut, then its own opened, then the guest's removed."""
    mine = await hold(bot, "mine")
    his = await shared(bot)
    (login,) = (await bot.manager.get("mine")).guests
    theirs = await his.postgres()
    await theirs.execute("SET ROLE NONE")
    await theirs.execute(f"CREATE TABLE {mine.schema}.kept (word text)")
    await bot.pool.execute("DELETE FROM sandbox_shares")
    for role in (mine.schema, f"{mine.schema}_{login}"):
        await admin.execute(f"ALTER ROLE {role} NOLOGIN")
    await bot.cleanup.keep_credentials()
    with pytest.raises(DRIVER_ERRORS):
        await theirs.execute("SELECT 1")
    theirs.terminate()
    await all_work(mine)
    await nothing_left(bot, admin, mine.sandbox)

    # Only the last step is missing: the sandbox's own sessions stay.
    (await shared(bot),)
    (login,) = (await bot.manager.get("mine")).guests
    await bot.pool.execute("DELETE FROM sandbox_shares")
    await admin.execute(f"ALTER ROLE {mine.schema}_{login} NOLOGIN")
    own = await mine.postgres()
    await bot.cleanup.keep_credentials()
    assert await own.fetchval("SELECT count(*) FROM kept") == 0
    await own.close()
    await nothing_left(bot, admin, mine.sandbox)


@pytest.mark.parametrize("point", ENDING)
async def test_while_the_shared_sandbox_ends(
    bot: Core, closed: EmbeddedServers, admin: asyncpg.Connection, point: str
) -> None:
    mine = await hold(bot, "mine")
    his = await shared(bot)
    lived = Lived(his)
    await lived.begin()
    await die(closed, "destroy", point)
    await bot.cleanup.keep_credentials()
    await lived.ends()
    await all_refused(his)
    await ended(bot)
    assert await roles_of(admin, mine.sandbox) == []
    assert await users_of(bot, mine.sandbox) == 0
    found = await bot.cleanup.find_orphaned_resources()
    assert (found.orphans, found.degraded) == ((), ())


async def test_a_guest_left_alone_is_an_orphan(bot: Core, admin: asyncpg.Connection) -> None:
    """A restored database knows nothing of the sharing, nor of the sandbox."""
    mine = await hold(bot, "mine")
    his = await shared(bot)
    (login,) = (await bot.manager.get("mine")).guests
    await bot.manager.destroy(ALICE, "mine")
    mark = await admin.fetchval(
        "SELECT split_part(obj_description(oid, 'pg_namespace'), ';', 1) FROM pg_namespace "
        "WHERE obj_description(oid, 'pg_namespace') LIKE 'discord-server-sandboxes%' LIMIT 1"
    )
    if mark is None:
        other = await hold(bot, "other")
        mark = await admin.fetchval(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1", other.schema
        )
    guest_role = f"{mine.schema}_{login}"
    await admin.execute(f"CREATE ROLE {guest_role} LOGIN; COMMENT ON ROLE {guest_role} IS '{mark}; x'")
    bot_role = await admin.fetchval(
        "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()"
    )
    await admin.execute(f"GRANT {guest_role} TO {bot_role} WITH ADMIN OPTION")
    users: object = bot.namespaces[1]
    redis = users._new._redis  # type: ignore[attr-defined]
    await redis.execute_command("ACL", "SETUSER", f"sandbox-{mine.sandbox.id}-{login}", "on")
    found = await bot.cleanup.find_orphaned_resources()
    assert {each.store for each in found.orphans} == {"PostgreSQL", "Redis"}
    await bot.cleanup.cleanup_orphaned_resources()
    assert await roles_of(admin, mine.sandbox) == []
    assert await users_of(bot, mine.sandbox) == 0
    await all_refused(his)
