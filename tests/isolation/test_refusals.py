"""Where a server can't keep sandboxes apart, `create` says which and what to do, and makes nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.error_text import explain
from sandbox_core.errors import IsolationImpossible
from sandbox_core.namespaces import SandboxUsers
from sandbox_core.secret_files import SettingsError
from sandbox_core.settings import Settings
from tests.doctor.servers import nats_server

from .conftest import ALICE, opened, settings_of


async def refused(core: Core) -> IsolationImpossible:
    with pytest.raises(IsolationImpossible) as impossible:
        await core.manager.create(ALICE, name="never")
    assert await core.manager.list(include_destroyed=False) == []
    error = impossible.value
    assert error.code == "SANDBOX_013"
    text = explain(error)
    assert error.where in text.sentence
    assert "Nothing was changed." in text.way_out
    return error


@asynccontextmanager
async def changed(connection: asyncpg.Connection, there: str, back: str) -> AsyncIterator[None]:
    await connection.execute(there)
    try:
        yield
    finally:
        await connection.execute(back)


async def test_a_nats_server_without_accounts(closed: EmbeddedServers, tmp_path: Path) -> None:
    async with (
        nats_server(tmp_path) as plain,
        opened(settings_of(closed, sandbox_nats_url=plain.url)) as core,
    ):
        error = await refused(core)
        assert (error.dependency, error.where) == ("NATS", f"127.0.0.1:{plain.port}")
        assert "sandboxctl tenant-nats" in error.mend


@pytest.mark.parametrize(
    ("there", "back", "problem", "mend"),
    [
        (
            "ALTER ROLE sandbox NOCREATEROLE",
            "ALTER ROLE sandbox CREATEROLE",
            "may not make roles",
            'ALTER ROLE "sandbox" CREATEROLE;',
        ),
        (
            "ALTER ROLE sandbox SUPERUSER",
            "ALTER ROLE sandbox NOSUPERUSER",
            "is a superuser",
            "an ordinary role",
        ),
        (
            "GRANT CONNECT ON DATABASE postgres TO PUBLIC",
            "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC",
            'may connect to 1 database: "postgres"',
            'REVOKE ALL ON DATABASE "postgres" FROM PUBLIC',
        ),
        (
            "GRANT CREATE ON SCHEMA public TO PUBLIC",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            "may make tables in the schema public of tenants",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC;",
        ),
        (
            "ALTER DATABASE tenants OWNER TO postgres",
            "ALTER DATABASE tenants OWNER TO sandbox",
            "may not make schemas in tenants",
            'ALTER DATABASE "tenants" OWNER TO "sandbox";',
        ),
    ],
)
async def test_postgres(
    core: Core,
    closed: EmbeddedServers,
    admin: asyncpg.Connection,
    there: str,
    back: str,
    problem: str,
    mend: str,
) -> None:
    async with changed(admin, there, back):
        error = await refused(core)
        assert (error.dependency, error.where) == ("PostgreSQL", f"127.0.0.1:{closed.postgres.port}")
        assert problem in error.problem
        assert mend in error.mend
    await core.manager.create(ALICE, name="now")


async def test_a_postgres_that_asks_for_no_password(
    core: Core, closed: EmbeddedServers, admin: asyncpg.Connection
) -> None:
    rules = closed.postgres.data_dir / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(before.replace("scram-sha-256", "trust"))
    await admin.execute("SELECT pg_reload_conf()")
    try:
        error = await refused(core)
    finally:
        rules.write_text(before)
        await admin.execute("SELECT pg_reload_conf()")
    assert "without a password" in error.problem
    assert "pg_hba.conf" in error.mend


async def test_a_redis_that_lets_everybody_in(core: Core, closed: EmbeddedServers) -> None:
    async with Redis.from_url(closed.tenant_valkey.url) as root:
        await root.execute_command("ACL SETUSER", "default", "on", "nopass")
        try:
            error = await refused(core)
        finally:
            await root.execute_command("ACL SETUSER", "default", "off", "resetpass")
    assert (error.dependency, error.where) == ("Redis", f"127.0.0.1:{closed.tenant_valkey.port}")
    assert "everybody is let in" in error.problem


async def test_a_redis_user_that_makes_no_users(closed: EmbeddedServers) -> None:
    async with Redis.from_url(closed.tenant_valkey.url) as root:
        await root.execute_command(
            *("ACL SETUSER", "weak", "reset", "on", ">weak", "~sandbox:*", "+@all", "-@admin", "+info")
        )
        try:
            url = urlsplit(closed.tenant_valkey.url)
            weak = urlunsplit(url._replace(netloc=f"weak:weak@{url.hostname}:{url.port}"))
            async with opened(settings_of(closed, sandbox_redis_url=weak)) as core:
                error = await refused(core)
                assert "may not run ACL LIST" in error.problem
                assert "ACL SETUSER weak +acl|setuser" in error.mend
                # What the remedy says is enough.
                await root.execute_command(*error.mend.split(": ", 1)[1].split())
                await core.manager.create(ALICE, name="now")
                await core.manager.destroy(ALICE, "now")
        finally:
            await root.execute_command("ACL DELUSER", "weak")


class _Old(Redis):
    """Says that it is older than it is: none that old is at hand."""

    async def execute_command(self, *words: object, **options: object) -> object:
        answer = await super().execute_command(*words, **options)
        return {"redis_version": "6.2.14"} if words[0] == "INFO" else answer


async def test_an_old_nats_server(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """None that old is at hand: the limit is moved instead."""
    monkeypatch.setattr("sandbox_core.namespaces.nats_logins.MINIMUM", (999, 1))
    error = await refused(core)
    assert error.dependency == "NATS"
    assert re.search(r"it is nats-server 2\.\d+\.\d+, which", error.problem)
    assert error.mend == "SANDBOX_NATS_URL must name nats-server 999.1 or newer."


async def test_an_old_redis(closed: EmbeddedServers, enforced: Settings) -> None:
    assert enforced.tenant_redis is not None
    assert enforced.credentials_key is not None
    async with _Old.from_url(closed.tenant_valkey.url, decode_responses=True) as redis:
        users = SandboxUsers(redis, enforced.tenant_redis, enforced.credentials_key, where="keys:6379")
        with pytest.raises(IsolationImpossible) as impossible:
            await users.require()
    assert "it is Redis 6.2" in impossible.value.problem


def test_it_is_enforced_unless_a_setting_says_otherwise() -> None:
    assert Settings.model_fields["sandbox_isolation"].default == "enforced"


@pytest.mark.parametrize(
    ("dependency", "absent"),
    [
        (
            "PostgreSQL",
            ("SANDBOX_DATABASE_URL", "SANDBOX_REDIS_URL", "SANDBOX_NATS_URL", "SANDBOX_CREDENTIALS_KEY"),
        ),
        ("PostgreSQL", ("SANDBOX_DATABASE_URL",)),
        ("Redis", ("SANDBOX_REDIS_URL", "SANDBOX_CREDENTIALS_KEY")),
        ("NATS", ("SANDBOX_NATS_URL",)),
        ("PostgreSQL", ("SANDBOX_CREDENTIALS_KEY",)),
    ],
)
async def test_settings_that_lack_a_server(
    closed: EmbeddedServers, dependency: str, absent: tuple[str, ...]
) -> None:
    ports = {"PostgreSQL": closed.postgres.port, "Redis": closed.valkey.port, "NATS": closed.nats.port}
    without = dict.fromkeys(name.lower() for name in absent)
    async with opened(settings_of(closed, **without)) as core:
        error = await refused(core)
    assert (error.dependency, error.where) == (dependency, f"127.0.0.1:{ports[dependency]}")
    assert all(name in error.problem for name in absent)
    assert "docs/servers.md" in error.mend
    assert "SANDBOX_ISOLATION=convention" in error.mend


@pytest.mark.parametrize(
    ("others", "lines"),
    [
        ({"sandbox_credentials_key": "short"}, ["SANDBOX_CREDENTIALS_KEY can't be used"]),
        ({"sandbox_database_url": "same"}, ["SANDBOX_DATABASE_URL names the database of DATABASE_URL"]),
        ({"sandbox_nats_url": "same"}, ["SANDBOX_NATS_URL names the server of NATS_URL"]),
        ({"sandbox_nats_url": "nats://me:secret@events.example"}, ["SANDBOX_NATS_URL has a login"]),
        (
            {"sandbox_worker_nats_url": "nats://token@events.example"},
            ["SANDBOX_WORKER_NATS_URL can't be used", "It must name no user"],
        ),
        ({"sandbox_redis_url": "same"}, ["SANDBOX_REDIS_URL names the server of REDIS_URL"]),
        (
            {"sandbox_worker_redis_url": "redis://user:password@keys.example:6379"},
            ["SANDBOX_WORKER_REDIS_URL can't be used", "It must name no user"],
        ),
    ],
)
def test_settings_that_do_not_do(
    closed: EmbeddedServers, others: dict[str, str | None], lines: list[str]
) -> None:
    same = {
        "sandbox_database_url": closed.database_url,
        "sandbox_redis_url": closed.redis_url,
        "sandbox_nats_url": closed.nats_url,
    }
    with pytest.raises(SettingsError) as wrong:
        settings_of(
            closed, **{name: same[name] if value == "same" else value for name, value in others.items()}
        )
    text = "\n".join(wrong.value.problems)
    assert all(line in text for line in lines), text
    assert closed.credentials_key not in text
