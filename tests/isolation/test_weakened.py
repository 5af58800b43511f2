"""The proof on servers that somebody has weakened: it names what went through, and itself does no harm."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.addresses import PostgresAddress, RedisAddress
from sandbox_core.bootstrap import Core
from sandbox_core.isolation import Report, prove, verdict_text
from sandbox_core.isolation.attacks import every
from sandbox_core.isolation.on_postgres import PostgresAttacker
from sandbox_core.isolation.on_redis import RedisAttacker
from sandbox_core.isolation.postgres_attacks import POSTGRES
from sandbox_core.isolation.redis_attacks import REDIS
from sandbox_core.models import Sandbox
from sandbox_core.settings import Settings

from .conftest import Held, trial_core
from .test_proof import OPERATOR, nothing_is_left

Weaken = Callable[[Sandbox, Sandbox], Awaitable[object]]


async def proven_after(settings: Settings, weaken: Weaken) -> Report:
    """The report of a proof whose servers are weakened once the attacker and the neighbour are there."""
    async with trial_core(settings) as trial:

        async def between(point: str) -> None:
            if point == "isolation:made":
                found = {each.name.rsplit("-", 1)[1]: each for each in await trial.manager.list()}
                await weaken(found["attacker"], found["neighbour"])

        return await prove(trial, OPERATOR, faults=between)


def named(report: Report, server: str) -> dict[str, str]:
    """What was not denied, with what came back; nothing on other servers."""
    assert not report.proven
    assert {section.title for section, _ in report.failed} <= {server, "SandboxContext"}
    assert verdict_text(report) == (
        f"Not isolated: {len(report.failed)} of {report.tried} attacks were not denied."
    )
    return {each.what: each.came_back for section, each in report.failed if section.title == server}


async def test_a_schema_that_is_granted_to_everybody(
    core: Core, enforced: Settings, admin: asyncpg.Connection
) -> None:
    async def weaken(_attacker: Sandbox, neighbour: Sandbox) -> None:
        schema = neighbour.schema_name
        await admin.execute(
            f"GRANT USAGE ON SCHEMA {schema} TO PUBLIC; GRANT SELECT ON {schema}.communities TO PUBLIC"
        )

    failed = named(await proven_after(enforced, weaken), "PostgreSQL (sandboxes)")
    assert failed["read a table"] == "the server did it, with a list of 1"
    assert {"a copy of it", "through search_path", "statistics view"} <= failed.keys()
    # What is in it is shown to nobody.
    assert "treasure" not in str(failed)
    assert not {"insert", "drop a table", "become the bot", "count rows"} & failed.keys()
    await nothing_is_left(core)


async def test_a_role_with_more_rights(core: Core, enforced: Settings, admin: asyncpg.Connection) -> None:
    async def weaken(attacker: Sandbox, _neighbour: Sandbox) -> None:
        await admin.execute(f"GRANT CONNECT ON DATABASE sandbox TO {attacker.schema_name}")
        await admin.execute(f"GRANT pg_read_all_data TO {attacker.schema_name}")

    failed = named(await proven_after(enforced, weaken), "PostgreSQL (sandboxes)")
    assert failed["become a predefined role"].startswith("the server did it")
    assert failed["into the bot's database"] == "the server let it in"


async def test_a_user_with_all_keys(core: Core, enforced: Settings, closed: EmbeddedServers) -> None:
    async def weaken(attacker: Sandbox, _neighbour: Sandbox) -> None:
        async with Redis.from_url(closed.tenant_valkey.url) as bot:
            await bot.execute_command("ACL", "SETUSER", f"sandbox-{attacker.id}", "allkeys")

    failed = named(await proven_after(enforced, weaken), "Redis (sandboxes)")
    assert failed["read a text"] == "the server did it, with a text of 8 characters"
    assert failed["to change or end anything of the neighbour's"].startswith("its text is another")
    assert {"write", "delete", "copy it"} <= failed.keys()
    assert not {"the configuration", "names step by step", "a script", "listen to it"} & failed.keys()
    async with Redis.from_url(closed.tenant_valkey.url) as bot:
        # Keys of nobody's go by themselves.
        for key in await bot.keys("*"):
            assert 0 < await bot.ttl(key) <= 60
            await bot.delete(key)
    await nothing_is_left(core)


async def test_a_user_with_all_commands(core: Core, enforced: Settings, closed: EmbeddedServers) -> None:
    async def weaken(attacker: Sandbox, _neighbour: Sandbox) -> None:
        async with Redis.from_url(closed.tenant_valkey.url) as bot:
            await bot.execute_command("ACL", "SETUSER", f"sandbox-{attacker.id}", "+@all")

    failed = named(await proven_after(enforced, weaken), "Redis (sandboxes)")
    assert failed["empty everything"] == "ERR syntax error"
    assert {"the configuration", "names step by step", "users", "every command that runs"} <= failed.keys()
    assert not {"read a text", "write", "listen to it"} & failed.keys()


async def test_an_account_that_exports_its_events(
    core: Core, enforced: Settings, closed: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = closed.tenant_nats
    sound = server._configuration()

    def weakened() -> dict[str, Any]:
        configuration = server.__class__._configuration(server)
        slots = {name: each for name, each in configuration["accounts"].items() if name.startswith("S0")}
        events = "sandbox.>"
        for name, account in slots.items():
            account["exports"].append({"stream": events})
            account["imports"] = [
                {"stream": {"account": other, "subject": events}, "prefix": "_INBOX.theirs"}
                for other in slots
                if other != name
            ]
        return configuration

    monkeypatch.setattr(server, "_configuration", weakened)
    await server.restart()
    try:
        async with trial_core(enforced) as trial:
            report = await prove(trial, OPERATOR)
    finally:
        monkeypatch.undo()
        assert server._configuration() == sound
        await server.restart()
    failed = named(report, "NATS (sandboxes)")
    assert failed == {"answers to others": "the neighbour's messages came"}


@pytest.fixture
async def bystander(other: Held) -> Held:
    """A sandbox of somebody else's, while an almighty user attacks."""
    return other


async def test_on_redis_nothing_of_it_could_hurt(bystander: Held, closed: EmbeddedServers) -> None:
    """An almighty user does all of it, and the server and a bystander have what they had."""
    address = RedisAddress.parse(closed.tenant_valkey.url)
    own, other = (f"sandbox:{uuid.uuid4()}:" for _ in range(2))
    names = {
        "own": own,
        "own_id": str(uuid.uuid4()),
        "own_user": "nobody-1",
        "other": other,
        "other_user": "nobody-2",
        "bot": "nobody-3",
        "database": 1,
    }
    async with Redis.from_url(closed.tenant_valkey.url, decode_responses=True) as bot:

        async def state() -> list[object]:
            about = await bot.info()
            return [
                await bot.config_get("*"),
                {line for line in await bot.acl_list() if "nobody-" not in line},
                about["run_id"],
                about["role"],
                about["rdb_bgsave_in_progress"],
                await bot.get(f"{bystander.prefix}text"),
                await bot.lrange(f"{bystander.prefix}list", 0, -1),
                await bot.hgetall(f"{bystander.prefix}hash"),
            ]

        before = await state()
        watching = await bot.client_id()
        went_through = 0
        async with RedisAttacker(address, names) as attacker:
            for attack in every(REDIS):
                went_through += not (await attacker.attempt(attack)).refusals
        assert went_through > 40
        assert await state() == before
        assert await bot.client_id() == watching
        await bot.execute_command("ACL", "DELUSER", "nobody-1")
        for key in await bot.keys("*"):
            if not key.startswith((bystander.prefix, own, other)):
                assert 0 < await bot.ttl(key) <= 60
                await bot.delete(key)
        await bot.unlink(*[key for each in (own, other) for key in await bot.keys(f"{each}*")])


async def test_on_postgresql_nothing_of_it_could_hurt(
    core: Core, bystander: Held, mine: Held, closed: EmbeddedServers, admin: asyncpg.Connection
) -> None:
    """A superuser does all of it, and everything is undone."""
    url = closed.postgres.admin_url.removesuffix("/postgres") + "/tenants"
    lob = await admin.fetchval("SELECT lo_from_bytea(0, 'treasure')")
    names = {
        "own": mine.schema,
        "other": bystander.schema,
        "bot": '"sandbox"',
        "bot_text": "'sandbox'",
        "superuser": '"postgres"',
        "database": '"tenants"',
        "control": '"sandbox"',
        "control_text": "'sandbox'",
        "other_lob": lob,
        "other_pid": 0,
    }

    async def state() -> list[object]:
        return [
            await admin.fetch("SELECT * FROM pg_authid ORDER BY oid"),
            await admin.fetch("SELECT * FROM pg_auth_members ORDER BY roleid, member"),
            await admin.fetch("SELECT * FROM pg_db_role_setting ORDER BY setdatabase, setrole"),
            await admin.fetch("SELECT datname, datacl FROM pg_database ORDER BY oid"),
            await admin.fetch("SELECT nspname, nspowner, nspacl FROM pg_namespace ORDER BY oid"),
            await admin.fetch(
                "SELECT relname, relowner, relacl FROM pg_class WHERE oid > 16384 ORDER BY oid"
            ),
            await admin.fetch("SELECT description FROM pg_shdescription ORDER BY objoid, classoid"),
            await admin.fetch("SELECT subname FROM pg_subscription"),
            await admin.fetch(f"SELECT * FROM {bystander.schema}.communities"),
            await admin.fetchval("SELECT lo_get($1)", lob),
        ]

    before = await state()
    attacker = PostgresAttacker(PostgresAddress.parse(url), names)
    went_through = 0
    for attack in every(POSTGRES):
        if attack.tried[-1].startswith("LOGIN "):
            continue
        went_through += not (await attacker.attempt(attack)).refusals
    attacker.close()
    assert went_through > 60
    assert await state() == before
    await admin.execute(f"SELECT lo_unlink({lob})")


def test_every_row_says_how_it_ends() -> None:
    for attack in (*every(POSTGRES), *every(REDIS)):
        assert [bool(attack.denied), attack.nothing, bool(attack.possible)].count(True) == 1, attack
