"""A colleague works in a shared sandbox with credentials of their own, which end with the sharing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta

import asyncpg
import pytest
from pydantic import SecretStr

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.errors import (
    DependencyUnavailable,
    NoCredentials,
    NotPermitted,
    SharingImpossible,
    SharingUnfinished,
)
from sandbox_core.manager import Colleague
from sandbox_core.models import Actor, AuditEvent, Sandbox, ShareAccess
from sandbox_core.postgres import transaction
from sandbox_core.postgres.errors import DRIVER_ERRORS
from sandbox_core.settings import Settings
from tests.conftest import revive

from .conftest import ALICE, BOB, Held, held, hold, opened
from .gateway import eventually, is_refused, worker
from .test_deaths import Lived, all_refused, all_work
from .test_life import both_refused, both_work, configured_with, expire, left_of

CAROL = Actor("200000000000000003", "Carol")


def colleague(actor: Actor = BOB) -> Colleague:
    return Colleague(actor.id, actor.display_name)


async def shared(core: Core, who: Actor = BOB) -> Held:
    """Share `mine` to use, and take what the colleague is shown."""
    made = await core.manager.share(ALICE, "mine", colleague(who), ShareAccess.USE)
    return guest(core, made.sandbox, who)


def guest(core: Core, sandbox: Sandbox, who: Actor = BOB) -> Held:
    return Held(sandbox, core.manager.credentials_for(who, sandbox))


async def roles_of(admin: asyncpg.Connection, sandbox: Sandbox) -> list[str]:
    """The roles of a sandbox, with its guests'."""
    rows = await admin.fetch(
        "SELECT rolname::text AS name FROM pg_roles WHERE starts_with(rolname, $1) ORDER BY 1",
        sandbox.schema_name,
    )
    return [row["name"] for row in rows]


async def users_of(core: Core, sandbox: Sandbox) -> int:
    """How many users Redis has of the sandbox."""
    users: object = core.namespaces[1]
    lines = await users._new._redis.execute_command("ACL", "LIST")  # type: ignore[attr-defined]
    return sum(f"sandbox-{sandbox.id}" in str(line) for line in lines)


async def nothing_left(core: Core, admin: asyncpg.Connection, sandbox: Sandbox) -> None:
    """The sandbox has its own logins and no others, and nothing of it is owned by anybody else."""
    assert await roles_of(admin, sandbox) == [sandbox.schema_name]
    assert await users_of(core, sandbox) == 1
    assert await core.pool.fetchval("SELECT count(*) FROM sandbox_shares WHERE login IS NOT NULL") == 0


async def test_a_colleague_works_with_credentials_of_their_own(bot: Core, admin: asyncpg.Connection) -> None:
    mine = await hold(bot, "mine")
    his = await shared(bot)
    for name in ("DATABASE_URL", "REDIS_URL", "NATS_URL", "DISCORD_TOKEN"):
        assert his.variables[name] != mine.variables[name]
    await all_work(his)
    await all_work(mine)

    # Both are the same: what one makes is the other's as well.
    theirs, own = await his.postgres(), await mine.postgres()
    assert await theirs.fetchval("SELECT current_user::text") == mine.schema
    await theirs.execute("CREATE TABLE plans (word text); INSERT INTO plans VALUES ('from Bob')")
    await own.execute("ALTER TABLE plans ADD COLUMN more text; INSERT INTO plans VALUES ('from Alice')")
    assert len(await theirs.fetch("SELECT more FROM plans")) == 2
    await own.execute("CREATE TABLE hers (word text)")
    await theirs.execute("DROP TABLE hers")
    owner = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'plans'"
    assert await admin.fetchval(owner) == mine.schema
    await theirs.close()
    await own.close()
    async with his.redis() as one, mine.redis() as two:
        await one.set(f"{his.prefix}a", "from Bob")
        assert await two.get(f"{his.prefix}a") == "from Bob"


async def test_unshare_cuts_everything_within_a_second(bot: Core, admin: asyncpg.Connection) -> None:
    mine = await hold(bot, "mine")
    his, hers = await shared(bot), await shared(bot, CAROL)
    lives, stays = Lived(his), Lived(hers)
    await lives.begin()
    await stays.begin()
    async with mine.redis() as redis, worker(mine.variables["NATS_URL"]) as own:
        await redis.ping()
        identity = await redis.client_id()
        started = time.monotonic()
        left = await bot.manager.unshare(ALICE, "mine", BOB.id)
        await lives.ends()
        assert time.monotonic() - started < 1.0
        await all_refused(his)
        # The owner's others are let alone.
        assert await redis.client_id() == identity
        assert own.client.is_connected
    await all_work(mine)
    await all_work(guest(bot, left.sandbox, CAROL))
    with pytest.raises(NotPermitted):
        guest(bot, left.sandbox)
    await bot.manager.unshare(ALICE, "mine", CAROL.id)
    await stays.ends()
    await all_refused(hers)
    await all_work(mine)
    await nothing_left(bot, admin, mine.sandbox)
    # Another sharing is another login.
    again = await shared(bot)
    await all_work(again)
    await all_refused(his)


async def test_a_colleague_can_keep_nothing_open(bot: Core, admin: asyncpg.Connection) -> None:
    """With every right that the sandbox's role has: a password of their own, roles, objects of their own."""
    mine = await hold(bot, "mine")
    theirs = await hold(bot, "theirs", BOB)
    his = await shared(bot)
    connection = await his.postgres()
    await connection.execute(f"ALTER ROLE {mine.schema} PASSWORD 'known-to-bob'")
    for statement in (
        f"GRANT {mine.schema} TO {theirs.schema}",
        f"ALTER ROLE {mine.schema} VALID UNTIL 'infinity'",
        "CREATE ROLE sandbox_bob LOGIN PASSWORD 'x'",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(statement)
    # This only warns: the schema is the bot's.
    await connection.execute(f"GRANT USAGE ON SCHEMA {mine.schema} TO {theirs.schema}")
    await connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {mine.schema} TO {theirs.schema}")
    # As themselves, and not as the sandbox's role.
    await connection.execute("SET ROLE NONE")
    assert await connection.fetchval("SELECT current_user <> $1", mine.schema)
    await connection.execute(f"CREATE TABLE {mine.schema}.kept (word text); SELECT lo_create(0)")
    await connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {theirs.schema}")
    await connection.execute(f"ALTER ROLE {await connection.fetchval('SELECT current_user')} PASSWORD 'own'")
    host = his.variables["DATABASE_URL"].partition("@")[2]
    as_sandbox = await asyncpg.connect(f"postgresql://{mine.schema}:known-to-bob@{host}")
    login = (await bot.manager.get("mine")).shares[0].login
    as_guest = await asyncpg.connect(f"postgresql://{mine.schema}_{login}:own@{host}")

    await bot.manager.unshare(ALICE, "mine", BOB.id)
    for each in (connection, as_sandbox, as_guest):
        with pytest.raises(DRIVER_ERRORS):
            await each.fetchval("SELECT 1")
        each.terminate()
    for user, password in ((mine.schema, "known-to-bob"), (f"{mine.schema}_{login}", "own")):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(f"postgresql://{user}:{password}@{host}")
    await all_work(mine)
    await nothing_left(bot, admin, mine.sandbox)
    # What he made as himself is the sandbox's now.
    own = await mine.postgres()
    await own.execute("DROP TABLE kept")
    assert (
        await admin.fetchval(
            "SELECT count(*) FROM pg_largeobject_metadata WHERE lomowner = $1::regrole", mine.schema
        )
        == 1
    )
    await own.close()
    # With his own sandbox's role he reaches nothing of it.
    outside = await theirs.postgres()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await outside.execute(f"SELECT * FROM {mine.schema}.communities")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await outside.execute(f"SET ROLE {mine.schema}")
    await outside.close()


async def test_a_colleague_who_has_made_too_much_is_forgotten_in_parts(
    core: Core, mine: Held, admin: asyncpg.Connection
) -> None:
    his = await shared(core)
    connection = await his.postgres()
    await connection.execute("SET ROLE NONE")
    for _ in range(15):
        await connection.execute("SELECT lo_create(0) FROM generate_series(1, 1000)")
    await connection.close()
    with contextlib.suppress(SharingUnfinished):
        await core.manager.unshare(ALICE, "mine", BOB.id)
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await his.postgres()

    async def forgotten() -> bool:
        with contextlib.suppress(DependencyUnavailable):
            await core.cleanup.keep_credentials()
        return await roles_of(admin, mine.sandbox) == [mine.schema]

    await eventually(forgotten, within=60)
    count = "SELECT count(*) FROM pg_largeobject_metadata WHERE lomowner = $1::regrole"
    assert await admin.fetchval(count, mine.schema) == 15_000


async def test_a_colleague_resets_it_and_everybody_works_on(bot: Core, admin: asyncpg.Connection) -> None:
    mine = await hold(bot, "mine")
    his = await shared(bot)
    theirs = await his.postgres()
    await theirs.execute("SET ROLE NONE")
    await theirs.execute(f"CREATE TABLE {mine.schema}.kept (word text)")
    await theirs.close()
    await bot.manager.reset(BOB, "mine")
    await all_work(his)
    await all_work(mine)
    assert await admin.fetchval("SELECT to_regclass($1) IS NULL", f"{mine.schema}.kept")
    await bot.manager.unshare(ALICE, "mine", BOB.id)
    await all_refused(his)
    with pytest.raises(NotPermitted):
        await bot.manager.reset(BOB, "mine")
    await nothing_left(bot, admin, mine.sandbox)


async def test_to_see_hands_out_no_credentials(core: Core, mine: Held, admin: asyncpg.Connection) -> None:
    made = await core.manager.share(ALICE, "mine", colleague(), ShareAccess.SEE)
    for action in ("read the events of", "read the calls of", "read the sessions of", "read dead letters of"):
        core.manager.check_may_manage(BOB, made.sandbox, action)
    for action in ("connect to", "make events in", "reset", "drop dead letters of", "destroy", "anything"):
        with pytest.raises(NotPermitted):
            core.manager.check_may_manage(BOB, made.sandbox, action)
    with pytest.raises(NotPermitted):
        core.manager.credentials_for(BOB, made.sandbox)
    await nothing_left(core, admin, mine.sandbox)
    # To use, and back: the credentials go.
    his = await shared(core)
    (await his.postgres()).terminate()
    less = await core.manager.share(ALICE, "mine", colleague(), ShareAccess.SEE)
    assert [each.login for each in less.sandbox.shares] == [""]
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await his.postgres()
    await nothing_left(core, admin, mine.sandbox)


async def test_a_rotation_is_of_every_login(bot: Core) -> None:
    mine = await hold(bot, "mine")
    his = await shared(bot)
    lives = Lived(his)
    await lives.begin()
    rotated = await bot.manager.rotate(ALICE, "mine")
    await lives.ends()
    await all_refused(his)
    await all_refused(mine)
    # They stay colleagues, and are shown new ones.
    await all_work(guest(bot, rotated.sandbox))
    await all_work(held(bot, rotated.sandbox))
    with pytest.raises(NotPermitted):
        await bot.manager.rotate(BOB, "mine")


@pytest.mark.parametrize("ending", ["destroy", "expire"])
async def test_the_end_of_the_sandbox_is_theirs(bot: Core, admin: asyncpg.Connection, ending: str) -> None:
    mine = await hold(bot, "mine")
    his = await shared(bot)
    lives = Lived(his)
    await lives.begin()
    if ending == "destroy":
        await bot.manager.destroy(ALICE, "mine")
    else:
        await expire(bot, mine.sandbox.id)
        await bot.cleanup.keep_credentials()
    await lives.ends()
    await all_refused(his)
    await bot.cleanup.cleanup_expired()
    assert await left_of(bot, mine.sandbox, admin) == []
    assert await roles_of(admin, mine.sandbox) == []
    assert await users_of(bot, mine.sandbox) == 0
    assert await bot.pool.fetchval("SELECT count(*) FROM sandbox_shares") == 0


async def test_extended_logins_hold_as_long(core: Core, mine: Held, admin: asyncpg.Connection) -> None:
    await shared(core)
    extended = await core.manager.extend(ALICE, "mine", "5h")
    until = "SELECT rolvaliduntil FROM pg_roles WHERE starts_with(rolname, $1)"
    found = [row["rolvaliduntil"] for row in await admin.fetch(until, mine.schema)]
    assert len(found) == 2
    assert all(abs(each - extended.sandbox.expires_at) < timedelta(seconds=1) for each in found)


async def test_what_a_server_has_lost_or_has_too_much_is_mended(
    bot: Core, closed: EmbeddedServers, admin: asyncpg.Connection
) -> None:
    mine = await hold(bot, "mine")
    his = await shared(bot)
    await closed.tenant_valkey.stop()
    await revive(closed.tenant_valkey)

    async def works() -> bool:
        await bot.cleanup.keep_credentials()
        return await users_of(bot, mine.sandbox) == 2

    await eventually(works)
    await all_work(his)
    # A row that is gone, as in a restored database: the logins have to go.
    lives = Lived(his)
    await lives.begin()
    await bot.pool.execute("DELETE FROM sandbox_shares")
    assert {store for store, _ in await bot.cleanup.keep_credentials()} >= {"PostgreSQL", "Redis"}
    await lives.ends()
    await all_refused(his)
    await all_work(mine)
    await nothing_left(bot, admin, mine.sandbox)
    assert await bot.cleanup.keep_credentials() == []


async def test_a_server_that_is_away_is_named_and_followed_up(
    bot: Core, closed: EmbeddedServers, admin: asyncpg.Connection
) -> None:
    mine = await hold(bot, "mine")
    his = await shared(bot)
    await closed.tenant_valkey.stop()
    with pytest.raises(SharingUnfinished) as unfinished:
        await bot.manager.unshare(ALICE, "mine", BOB.id)
    assert unfinished.value.dependency == "Redis"
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await his.postgres()
    assert await is_refused(his.variables["NATS_URL"])
    await revive(closed.tenant_valkey)
    await bot.cleanup.keep_credentials()
    await all_refused(his)
    await nothing_left(bot, admin, mine.sandbox)


async def test_sharings_at_the_same_time_do_not_disturb_each_other(
    bot: Core, admin: asyncpg.Connection
) -> None:
    mine = await hold(bot, "mine")
    people = [Actor(f"20000000000000010{number}", f"P{number}") for number in range(6)]
    async with asyncio.TaskGroup() as group:
        for each in people:
            group.create_task(bot.manager.share(ALICE, "mine", colleague(each), ShareAccess.USE))
        group.create_task(bot.cleanup.keep_credentials())
    now = await bot.manager.get("mine")
    for each in people:
        await all_work(guest(bot, now, each))
    async with asyncio.TaskGroup() as group:
        for each in people[:5]:
            group.create_task(bot.manager.unshare(ALICE, "mine", each.id))
        group.create_task(bot.cleanup.keep_credentials())
    for each in people[:5]:
        await all_refused(guest(bot, now, each))
    await all_work(guest(bot, now, people[5]))
    await all_work(mine)
    assert len(await roles_of(admin, mine.sandbox)) == 2


async def test_with_another_key_it_can_be_taken_back(
    core: Core, mine: Held, enforced: Settings, closed: EmbeddedServers, admin: asyncpg.Connection
) -> None:
    his = await shared(core)
    key = SecretStr("k" * 32)
    changed = enforced.model_copy(update={"sandbox_credentials_key": key})
    async with configured_with(closed.tenant_nats, key), opened(changed) as second:
        with pytest.raises(NoCredentials):
            await second.manager.share(ALICE, "mine", colleague(CAROL), ShareAccess.USE)
        # The sandbox's own can't be made as they were, so they are rotated.
        left = (await second.manager.unshare(ALICE, "mine", BOB.id)).sandbox
        assert (left.generation, left.shares) == (2, ())
        await both_refused(his)
        await both_refused(mine)
        await both_work(held(second, left))
        await nothing_left(second, admin, left)
        await second.manager.destroy(ALICE, "mine")


async def test_nothing_stores_or_shows_a_secret(core: Core, mine: Held, admin: asyncpg.Connection) -> None:
    his = await shared(core)
    urls = [value for value in his.variables.values() if "@" in value]
    secrets = [url.split("@")[0].rsplit(":", 1)[1] for url in urls]
    secrets.append(his.variables["DISCORD_TOKEN"].rsplit(".", 1)[1])
    assert len(set(secrets)) == 4
    async with transaction(core.pool) as connection:
        stored = str(await connection.fetch("SELECT * FROM sandbox_shares"))
    stored += str(await admin.fetch("SELECT * FROM pg_authid"))
    stored += str(await admin.fetch("SELECT * FROM pg_shdescription"))
    stored += str(await core.manager.audit("mine"))
    assert not any(secret in stored or secret in repr(his.sandbox) for secret in secrets)
    events = [entry.event_type for entry in await core.manager.audit("mine")]
    assert AuditEvent.SHARED in events


async def test_by_convention_nothing_can_be_taken_away_again(enforced: Settings) -> None:
    settings = enforced.model_copy(update={"sandbox_isolation": "convention"})
    async with opened(settings) as core:
        await hold(core, "plain")
        with pytest.raises(SharingImpossible):
            await core.manager.share(ALICE, "plain", colleague(), ShareAccess.USE)
        made = await core.manager.share(ALICE, "plain", colleague(), ShareAccess.SEE)
        assert made.sandbox.share_of(BOB.id) is not None
        await core.manager.destroy(ALICE, "plain")
