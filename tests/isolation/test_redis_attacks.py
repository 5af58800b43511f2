"""A neighbour tries everything with the login that `connect` showed, and a plain client.

So does a colleague of theirs with a login to the shared sandbox: it reaches no more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import Connection

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.addresses import RedisAddress
from sandbox_core.isolation.attacks import Attack
from sandbox_core.isolation.on_redis import RedisAttacker
from sandbox_core.models import Actor
from sandbox_core.settings import Settings
from tests.conftest import ROOT

from .conftest import BOB, Held, expect, hold, hold_as_guest, opened
from .postgres_attacks import POSTGRES
from .redis_attacks import REDIS


@dataclass(frozen=True)
class Stage:
    """An attacker and its neighbour."""

    mine: Held
    other: Held
    theirs: Redis
    names: dict[str, str]

    async def intact(self) -> bool:
        """Whether the neighbour still has what it had."""
        prefix = self.other.prefix
        return (
            await self.theirs.get(f"{prefix}text") == "treasure"
            and await self.theirs.lrange(f"{prefix}list", 0, -1) == ["treasure"]
            and await self.theirs.hgetall(f"{prefix}hash") == {"field": "treasure"}
            and await self.theirs.ttl(f"{prefix}text") == -1
        )


@pytest.fixture(scope="module", params=["owner", "colleague"])
async def stage(
    closed: EmbeddedServers, enforced: Settings, request: pytest.FixtureRequest
) -> AsyncIterator[Stage]:
    async with opened(enforced) as core:
        mine, other = await hold(core, "mine"), await hold(core, "other", BOB)
        if request.param == "colleague":
            mine = await hold_as_guest(core, mine)
        names = {
            "own": mine.prefix,
            "own_id": str(mine.sandbox.id),
            "own_user": mine.user,
            "other": other.prefix,
            "other_user": other.user,
            "bot": "bot",
            "database": "1",
        }
        async with other.redis() as theirs:
            await theirs.set(f"{other.prefix}text", "treasure")
            await theirs.rpush(f"{other.prefix}list", "treasure")
            await theirs.hset(f"{other.prefix}hash", "field", "treasure")
            yield Stage(mine, other, theirs, names)
        for held in (mine, other):
            await core.manager.destroy(Actor("test", is_bot_owner=True), held.sandbox.name)


@pytest.mark.parametrize("attack", REDIS, ids=str)
async def test_attack(stage: Stage, attack: Attack) -> None:
    address = RedisAddress.parse(stage.mine.variables["REDIS_URL"])
    async with RedisAttacker(address, stage.names) as attacker:
        expect(attack, await attacker.attempt(attack))
    assert await stage.intact()


_HARMLESS = {
    "acl|whoami",
    "auth",
    "client|getname",
    "client|id",
    "client|setinfo",
    "client|setname",
    "discard",
    "echo",
    "exec",
    "hello",
    "lolwut",
    "multi",
    "ping",
    "punsubscribe",
    "quit",
    "reset",
    "time",
    "unsubscribe",
    "unwatch",
}
"""What a sandbox may run that names no key and no channel, and tells nothing of others."""
_CHECKED_IN_THEIR_ARGUMENTS = {
    "blmpop",
    "bzmpop",
    "lmpop",
    "msetex",
    "publish",
    "sintercard",
    "subscribe",
    "xread",
    "xreadgroup",
    "zdiff",
    "zinter",
    "zintercard",
    "zmpop",
    "zunion",
}
"""Their keys or channels stand further back, where the server looks for them, too."""


async def test_no_other_command_goes_without_a_key_of_its_own(stage: Stage, closed: EmbeddedServers) -> None:
    """A newer server may bring commands: whoever updates it decides about them here."""
    allowed = set()
    async with Redis.from_url(closed.tenant_valkey.url, decode_responses=True) as bot:
        connection: Connection = await bot.connection_pool.get_connection()

        async def raw(*words: str) -> Any:
            await connection.send_command(*words)
            return await connection.read_response()

        for each in await raw("COMMAND"):
            # Name, number of words, and where the first key is; a tenth field has the subcommands of some.
            for command, words, _, key, *_ in each[9] or [each]:
                parts = command.split("|")
                # As few words as it takes; keys are the attacker's own.
                own = [f"{stage.mine.prefix}x"] * max(0, abs(words) - len(parts))
                answer = await raw("ACL", "DRYRUN", stage.mine.user, *parts, *own)
                if answer == "OK" and not key and not command.endswith("|help"):
                    allowed.add(command)
        await connection.disconnect()
    assert allowed == _HARMLESS | _CHECKED_IN_THEIR_ARGUMENTS


@pytest.mark.parametrize("attack", [each for each in (*POSTGRES, *REDIS) if each.possible], ids=str)
def test_what_remains_possible_is_said(attack: Attack) -> None:
    assert attack.possible in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_list_is_long_enough() -> None:
    assert len(POSTGRES) + len(REDIS) >= 150
