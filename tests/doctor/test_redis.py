"""Redis, broken in one way at a time: what is found, where, and whether the command mends it."""

from __future__ import annotations

import asyncio
import itertools
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ClusterDownError

from sandbox_bot.doctor import State
from sandbox_bot.doctor.redis_commands import COMMANDS, KEYS
from sandbox_bot.embedded import EmbeddedServers
from tests.conftest import revive
from tests.doctor.conftest import Doctor
from tests.doctor.servers import valkey
from tests.e2e.harness import free_port

_numbers = itertools.count(1)


@dataclass(frozen=True)
class User:
    """A user of the suite's Valkey with exactly the rights that the bot needs."""

    admin: Redis
    name: str
    url: str

    async def run(self, *commands: str) -> None:
        for command in commands:
            await self.admin.execute_command(*shlex.split(command))


@pytest.fixture
async def user(servers: EmbeddedServers) -> AsyncIterator[User]:
    await revive(servers.valkey)
    name = f"doctor{next(_numbers)}"
    url = urlsplit(servers.redis_url)
    admin = Redis.from_url(servers.redis_url)
    user = User(
        admin, name, urlunsplit(url._replace(netloc=f"{name}:secret-of-it@{url.hostname}:{url.port}"))
    )
    rights = " ".join(f"+{command}" for command in COMMANDS)
    await user.run(f"ACL SETUSER {name} on >secret-of-it ~{KEYS} {rights}")
    yield user
    await user.run(f"ACL DELUSER {name}")
    await admin.aclose()


async def test_a_server_with_nothing_special_is_well(doctor: Doctor, redis_url: str) -> None:
    found = await doctor("Redis")
    found.well()
    assert "every command that the bot uses was tried" in found.text
    async with Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0


async def test_a_user_with_what_is_needed_is_well(doctor: Doctor, user: User) -> None:
    (await doctor("Redis", redis_url=user.url)).well()
    (await doctor("Redis", redis_url=user.url.replace("/0", "/9"))).well()


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_less_is_named_with_the_acl_that_allows_it(
    doctor: Doctor, user: User, command: str
) -> None:
    url = user.url.replace("/0", "/9")
    await user.run(f"ACL SETUSER {user.name} -{command}")

    found = await doctor("Redis", redis_url=url)
    finding = next(each for each in found.findings if each.mend)
    assert finding.state is (State.NOTE if command == "info" else State.FAILED)
    assert command.upper().replace("|", " ") in finding.detail + finding.mend
    assert f"+{command}" in finding.commands[0]
    assert finding.where == urlsplit(user.url).netloc.rsplit("@", 1)[1]

    await user.run(*finding.commands)
    mended = await doctor("Redis", redis_url=url)
    mended.well()
    assert not any(each.mend for each in mended.findings)


@pytest.mark.parametrize("keys", ["", "~sandbox:route:*", "%R~sandbox:*"])
async def test_keys_that_may_not_be_used(doctor: Doctor, user: User, keys: str) -> None:
    await user.run(f"ACL SETUSER {user.name} resetkeys {keys}")
    finding = (await doctor("Redis", redis_url=user.url)).only()
    assert finding.detail == f"the user {user.name} may not use keys sandbox:*"
    await user.run(*finding.commands)
    (await doctor("Redis", redis_url=user.url)).well()


async def test_a_user_that_may_nothing_is_mended_in_one_step(doctor: Doctor, user: User) -> None:
    await user.run(f"ACL SETUSER {user.name} resetkeys nocommands")
    finding = (await doctor("Redis", redis_url=user.url)).only()
    await user.run(*finding.commands)
    (await doctor("Redis", redis_url=user.url)).well()


async def test_a_wrong_password_and_no_such_database(doctor: Doctor, user: User) -> None:
    refused = (await doctor("Redis", redis_url=user.url.replace("secret-of-it", "another-one"))).only()
    assert refused.state is State.AWAY
    assert refused.detail.startswith(f"it refused the login as {user.name}: ")
    absent = (await doctor("Redis", redis_url=user.url.replace("/0", "/99"))).only()
    assert absent.detail == "it has no database 99"


async def test_a_server_in_cluster_mode(doctor: Doctor, tmp_path: Path) -> None:
    # Its second port is by default ten thousand above the first, which another process may have.
    options = {"cluster_enabled": "yes", "cluster_port": str(free_port())}
    async with valkey(tmp_path, databases="1", **options) as server:
        finding = (await doctor("Redis", redis_url=server.url)).only()
        assert "cluster mode" in finding.detail
        # Where INFO is forbidden, the answers to commands tell it.
        async with Redis.from_url(server.url) as admin:
            await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            await admin.execute_command(*shlex.split("ACL SETUSER default -info"))
            await _until_up(admin)
        assert "cluster mode" in (await doctor("Redis", redis_url=server.url)).only().detail


async def _until_up(admin: Redis) -> None:
    async with asyncio.timeout(30):
        while not await _has_slots(admin):
            await asyncio.sleep(0.05)


async def _has_slots(admin: Redis) -> bool:
    try:
        await admin.get("a")
    except ClusterDownError:
        return False
    return True


async def test_a_replica_takes_no_writes(doctor: Doctor, servers: EmbeddedServers, tmp_path: Path) -> None:
    await revive(servers.valkey)
    port = servers.valkey.port
    async with valkey(tmp_path, replicaof=f"127.0.0.1 {port}") as server:
        finding = (await doctor("Redis", redis_url=server.url)).only()
    assert "replica" in finding.detail
    assert f"127.0.0.1:{port}" in finding.mend


async def test_a_command_that_is_renamed(doctor: Doctor, tmp_path: Path) -> None:
    async with valkey(tmp_path, rename_command='UNLINK ""') as server:
        finding = (await doctor("Redis", redis_url=server.url)).only()
    assert finding.detail == "the command UNLINK does not exist, or has another name"


async def test_memory_that_is_full_and_a_policy_that_drops_any_key(doctor: Doctor, tmp_path: Path) -> None:
    async with valkey(tmp_path, maxmemory="1") as server:
        full = (await doctor("Redis", redis_url=server.url)).only()
        assert "memory is full" in full.detail
        async with Redis.from_url(server.url) as admin:
            await admin.execute_command(*shlex.split(full.commands[0]))
            await admin.config_set("maxmemory-policy", "allkeys-lru")
        found = await doctor("Redis", redis_url=server.url)
        found.well()
        note = next(each for each in found.findings if each.state is State.NOTE)
        assert "allkeys-lru" in note.detail


async def test_it_is_away(doctor: Doctor) -> None:
    found = await doctor("Redis", redis_url="redis://127.0.0.1:1/0")
    assert found.only().state is State.AWAY
    assert found.only().where == "127.0.0.1:1"
    (await doctor("PostgreSQL", redis_url="redis://127.0.0.1:1/0")).well()


async def test_tls_to_a_server_without_it(doctor: Doctor, redis_url: str) -> None:
    finding = (await doctor("Redis", redis_url=redis_url.replace("redis://", "rediss://"))).only()
    assert finding.state is State.AWAY
    assert "by TLS as rediss:// asks for; without TLS it is redis://" in finding.detail


async def test_what_is_no_redis(doctor: Doctor, database_url: str) -> None:
    there = f"redis://127.0.0.1:{urlsplit(database_url).port}/0"
    finding = (await doctor("Redis", redis_url=there)).only()
    assert finding.mend
