"""Credentials live and die with their sandbox: shown, rotated, cut, made again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr
from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers, TenantNatsServer
from sandbox_core.bootstrap import Core
from sandbox_core.credentials import CredentialsKey
from sandbox_core.errors import DependencyUnavailable, NoCredentials, NotPermitted, RotationUnfinished
from sandbox_core.models import AuditEvent, Sandbox
from sandbox_core.nats.tenant.keys import TenantKeys
from sandbox_core.postgres import transaction
from sandbox_core.postgres.errors import DRIVER_ERRORS
from sandbox_core.settings import Settings
from tests.conftest import revive

from .conftest import ALICE, BOB, Held, held, hold, opened
from .gateway import eventually
from .slow_login import SlowLogin


async def both_work(held: Held) -> None:
    connection = await held.postgres()
    assert await connection.fetchval("SELECT current_schema()") == held.schema
    await connection.close()
    async with held.redis() as redis:
        assert await redis.set(f"{held.prefix}a", "b")


async def both_refused(held: Held) -> None:
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await held.postgres()
    async with held.redis() as redis:
        with pytest.raises(rd.AuthenticationError):
            await redis.ping()


class Sessions:
    """Live connections of a worker, busy and idle, and when each was cut."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._tasks: list[asyncio.Task[None]] = []
        self._exits = contextlib.AsyncExitStack()

    async def open(self) -> None:
        await self._follow_postgres("SELECT pg_sleep(50)")
        await self._follow_postgres(None)
        # The client would end what waits for longer by itself.
        url = self._held.variables["REDIS_URL"]
        redis = await self._exits.enter_async_context(Redis.from_url(url, socket_timeout=60))
        await redis.ping()
        self._tasks.append(asyncio.create_task(self._until_cut(redis.blpop([f"{self._held.prefix}q"], 50))))
        pubsub = await self._exits.enter_async_context(redis.pubsub())
        await pubsub.subscribe(f"{self._held.prefix}news")
        self._tasks.append(asyncio.create_task(self._until_cut(self._listen(pubsub.get_message))))

    async def all_cut(self) -> None:
        async with asyncio.timeout(20):
            await asyncio.gather(*self._tasks)
        await self._exits.aclose()

    async def _follow_postgres(self, statement: str | None) -> None:
        connection = await self._held.postgres()
        self._exits.callback(connection.terminate)
        ended = asyncio.get_running_loop().create_future()
        connection.add_termination_listener(lambda _: ended.done() or ended.set_result(None))
        if statement is not None:
            self._tasks.append(asyncio.create_task(self._until_cut(connection.fetchval(statement))))
        self._tasks.append(asyncio.create_task(self._until_cut(ended)))

    async def _listen(self, get: Callable[..., object]) -> None:
        while True:
            await get(timeout=50)  # type: ignore[misc]

    async def _until_cut(self, work: object) -> None:
        with contextlib.suppress(*DRIVER_ERRORS, rd.ConnectionError):
            await work  # type: ignore[misc]


async def test_connect_shows_them_again_and_nothing_stores_them(
    core: Core, mine: Held, admin: asyncpg.Connection
) -> None:
    assert held(core, await core.manager.get("mine")).variables == mine.variables
    await both_work(mine)
    urls = [value for value in mine.variables.values() if "@" in value]
    secrets = [url.split("@")[0].rsplit(":", 1)[1] for url in urls]
    secrets.append(mine.variables["DISCORD_TOKEN"].rsplit(".", 1)[1])
    async with transaction(core.pool) as connection:
        tables = [
            row["name"]
            for row in await connection.fetch(
                "SELECT relname::text AS name FROM pg_class "
                "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            )
        ]
        stored = "".join([str(await connection.fetch(f"SELECT * FROM {table}")) for table in tables])
    stored += str(await admin.fetch("SELECT * FROM pg_authid"))
    stored += str(await admin.fetch("SELECT * FROM pg_shdescription"))
    assert not any(secret in stored or secret in repr(mine.sandbox) for secret in secrets)
    assert len(set(secrets)) == 4


async def test_a_rotation_cuts_the_old_and_shows_new(core: Core, mine: Held, other: Held) -> None:
    await both_work(mine)
    sessions, others = Sessions(mine), await other.postgres()
    await sessions.open()

    rotated = held(core, (await core.manager.rotate(ALICE, "mine")).sandbox)
    await sessions.all_cut()
    await both_refused(mine)
    await both_work(rotated)
    assert await others.fetchval("SELECT name FROM communities") == "treasure"
    await others.close()

    entries = await core.manager.audit("mine")
    assert entries[-1].event_type is AuditEvent.CREDENTIALS_ROTATED
    assert entries[-1].details == {"from": 1, "to": 2}
    assert await core.cleanup.keep_credentials() == []


async def test_only_the_owner_rotates(core: Core, mine: Held) -> None:
    with pytest.raises(NotPermitted):
        await core.manager.rotate(BOB, "mine")
    await both_work(mine)


async def test_a_login_that_takes_long_does_not_pass_a_rotation(core: Core, mine: Held) -> None:
    """The server reads the verifier as a login begins; the client may answer a minute later."""
    slow = SlowLogin(mine.variables["DATABASE_URL"])
    await slow.begin()
    rotated = held(core, (await core.manager.rotate(ALICE, "mine")).sandbox)
    await slow.finish()

    assert await core.cleanup.keep_credentials() == []
    async with asyncio.timeout(5):
        assert b"terminating connection" in await slow.ended()
    await both_work(rotated)


async def test_a_destruction_cuts_and_leaves_nothing(
    core: Core, mine: Held, admin: asyncpg.Connection
) -> None:
    sessions = Sessions(mine)
    await sessions.open()
    await core.manager.destroy(ALICE, "mine")
    await sessions.all_cut()
    await both_refused(mine)
    assert await left_of(core, mine.sandbox, admin) == []


async def test_an_expiry_cuts_before_anything_is_removed(core: Core, mine: Held, enforced: Settings) -> None:
    sessions = Sessions(mine)
    await sessions.open()
    await expire(core, mine.sandbox.id)
    await core.cleanup.keep_credentials()
    await sessions.all_cut()
    await both_refused(mine)


async def test_postgres_itself_refuses_an_expired_login(core: Core, mine: Held) -> None:
    """Also while no process of the bot runs."""
    async with transaction(core.pool) as connection:
        await connection.execute(
            "UPDATE sandboxes SET expires_at = now() + interval '1 second' WHERE id = $1", mine.sandbox.id
        )
    await core.cleanup.keep_credentials()
    async with asyncio.timeout(10):
        while True:
            try:
                await (await mine.postgres()).close()
            except asyncpg.InvalidPasswordError:
                break


async def test_an_extension_holds(core: Core, mine: Held, admin: asyncpg.Connection) -> None:
    extended = (await core.manager.extend(ALICE, "mine", "2h")).sandbox
    until = await admin.fetchval("SELECT rolvaliduntil FROM pg_roles WHERE rolname = $1", mine.schema)
    assert abs(until - extended.expires_at) < timedelta(seconds=1)
    await both_work(mine)


async def test_a_restarted_server_of_keys_gets_its_users_back(
    core: Core, mine: Held, closed: EmbeddedServers
) -> None:
    await both_work(mine)
    await closed.tenant_valkey.restart()
    async with mine.redis() as redis:
        with pytest.raises(rd.AuthenticationError):
            await redis.ping()
    lacking = (await core.manager.health("mine")).parts[1]
    assert (lacking.state, "its login is missing" in lacking.detail) == ("degraded", True)
    assert await core.cleanup.keep_credentials() == [("Redis", mine.sandbox.id)]
    async with mine.redis() as redis:
        assert await redis.get(f"{mine.prefix}a") == "b"
    assert await core.cleanup.keep_credentials() == []


async def test_what_somebody_has_changed_is_mended(core: Core, mine: Held, admin: asyncpg.Connection) -> None:
    connection = await mine.postgres()
    facts = (await core.manager.health("mine")).parts[0].facts
    assert (facts["connections"], facts["connections_limit"]) == (1, 20)
    await connection.close()
    await admin.execute(f"ALTER ROLE {mine.schema} NOLOGIN")
    assert (await core.manager.health("mine")).parts[0].state == "degraded"
    assert await core.cleanup.keep_credentials() == [("PostgreSQL", mine.sandbox.id)]
    await both_work(mine)


async def test_a_schema_that_is_gone_is_damage_though_its_role_is_there(
    core: Core, mine: Held, other: Held, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"DROP SCHEMA {mine.schema} CASCADE")
    assert await core.cleanup.keep_credentials() == []
    found = await core.cleanup.find_orphaned_resources()
    assert {(each.sandbox.name, each.missing) for each in found.degraded} == {
        ("mine", f"the schema {mine.schema}")
    }
    assert (found.orphans, dict(found.unreadable)) == ((), {})
    # Its role alone is no orphan, and goes with the sandbox.
    await core.manager.destroy(ALICE, "mine")
    assert (await core.cleanup.find_orphaned_resources()).degraded == ()
    assert await admin.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", mine.schema) == 0


async def test_a_rotation_goes_on_once_its_server_is_back(
    core: Core, mine: Held, closed: EmbeddedServers
) -> None:
    await closed.tenant_valkey.kill()
    with pytest.raises(RotationUnfinished) as unfinished:
        await core.manager.rotate(ALICE, "mine")
    assert unfinished.value.dependency == "Redis"
    rotated = held(core, await core.manager.get("mine"))
    with pytest.raises(asyncpg.InvalidPasswordError):
        await mine.postgres()
    await revive(closed.tenant_valkey)
    await core.cleanup.keep_credentials()
    await both_refused(mine)
    await both_work(rotated)


@contextlib.asynccontextmanager
async def configured_with(server: TenantNatsServer, key: SecretStr) -> AsyncIterator[None]:
    """The sandboxes' NATS server has the configuration of this key, until the end of the block."""
    before, server._keys = server._keys, TenantKeys(CredentialsKey(key))
    await server.restart()
    try:
        yield
    finally:
        server._keys = before
        await server.restart()


async def test_another_key_asks_for_a_rotation(
    core: Core, mine: Held, enforced: Settings, closed: EmbeddedServers
) -> None:
    key = SecretStr("k" * 32)
    changed = enforced.model_copy(update={"sandbox_credentials_key": key})
    async with configured_with(closed.tenant_nats, key), opened(changed) as second:
        with pytest.raises(NoCredentials) as none:
            second.manager.credentials(mine.sandbox)
        assert none.value.outdated
        # It does not fight with the other process about them.
        assert await second.cleanup.keep_credentials() == []
        await both_work(mine)
        rotated = held(second, (await second.manager.rotate(ALICE, "mine")).sandbox)
        await both_refused(mine)
        await both_work(rotated)
        with pytest.raises(DependencyUnavailable):
            await core.cleanup.keep_credentials()

    async def nothing_to_do() -> bool:
        with contextlib.suppress(DependencyUnavailable):
            return await core.cleanup.keep_credentials() == []
        return False

    await eventually(nothing_to_do)


async def test_orphans_of_both_kinds_are_found_and_removed(
    core: Core, mine: Held, admin: asyncpg.Connection
) -> None:
    """As when the row is gone and its role and user are not: a process came back from the dead."""
    gone = (await hold(core, "gone")).sandbox
    await core.manager.destroy(ALICE, "gone")
    for namespace in core.namespaces:
        if namespace.credentials is not None:
            await namespace.provision(gone)
    assert await left_of(core, gone, admin) == ["schema", "role", "user", "account"]
    done = await core.cleanup.cleanup_orphaned_resources()
    assert {orphan.store for orphan in done.removed} == {"PostgreSQL", "Redis", "NATS"}
    assert await left_of(core, gone, admin) == []
    await both_work(mine)


async def left_of(core: Core, sandbox: Sandbox, admin: asyncpg.Connection) -> list[str]:
    """What still exists of a sandbox on the tenant side."""
    left = []
    if await admin.fetchval("SELECT to_regnamespace($1) IS NOT NULL", sandbox.schema_name):
        left.append("schema")
    if await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", sandbox.schema_name):
        left.append("role")
    if str(sandbox.id) in await core.namespaces[1].list_ids():
        left.append("user")
    if str(sandbox.id) in await core.namespaces[2].list_ids():
        left.append("account")
    return left


async def expire(core: Core, sandbox_id: UUID) -> None:
    async with transaction(core.pool) as connection:
        await connection.execute(
            "UPDATE sandboxes SET created_at = created_at - interval '1 hour', "
            "expires_at = now() WHERE id = $1",
            sandbox_id,
        )
