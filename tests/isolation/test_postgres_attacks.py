"""A neighbour tries everything with the login that `connect` showed, and a plain client.

So does a colleague of theirs with a login to the shared sandbox: it reaches no more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.addresses import PostgresAddress
from sandbox_core.isolation.attacks import Attack
from sandbox_core.isolation.on_postgres import PostgresAttacker
from sandbox_core.settings import Settings

from .conftest import BOB, GUILD, Held, expect, hold, hold_as_guest, opened
from .postgres_attacks import POSTGRES


@dataclass(frozen=True)
class Stage:
    """An attacker and its neighbour, who is connected."""

    mine: Held
    own_url: str
    """The address of the sandbox's own login."""
    other: Held
    other_connection: asyncpg.Connection
    names: dict[str, object]

    async def intact(self) -> bool:
        """Whether the neighbour still has what it had, and its session."""
        rows = await self.other_connection.fetch("SELECT guild_id, name FROM communities")
        lob = await self.other_connection.fetchval("SELECT lo_get($1)", self.names["other_lob"])
        return [tuple(row) for row in rows] == [(GUILD, "treasure")] and lob == b"treasure"


@pytest.fixture(scope="module", params=["owner", "colleague"])
async def stage(
    closed: EmbeddedServers, enforced: Settings, request: pytest.FixtureRequest
) -> AsyncIterator[Stage]:
    limited = enforced.model_copy(update={"sandbox_database_statement_seconds": 1.0})
    async with opened(limited) as core:
        mine, other = await hold(core, "mine"), await hold(core, "other", BOB)
        own_url = mine.variables["DATABASE_URL"]
        if request.param == "colleague":
            mine = await hold_as_guest(core, mine)
        theirs, ours = await other.postgres(), await mine.postgres()
        await theirs.execute("INSERT INTO communities (guild_id, name) VALUES ($1, 'treasure')", GUILD)
        await theirs.execute("CREATE FUNCTION secret() RETURNS text LANGUAGE sql AS $$SELECT 'treasure'$$")
        # For statistics to steal.
        await theirs.execute("ANALYZE communities")
        bot = await asyncpg.connect(closed.postgres.tenants_url)
        names = {
            "own": mine.schema,
            "other": other.schema,
            "own_lob": await ours.fetchval("SELECT lo_from_bytea(0, 'x')"),
            "other_lob": await theirs.fetchval("SELECT lo_from_bytea(0, 'treasure')"),
            "other_pid": await theirs.fetchval("SELECT pg_backend_pid()"),
            "bot_pid": await bot.fetchval("SELECT pg_backend_pid()"),
            "bot": "sandbox",
            "bot_text": "'sandbox'",
            "superuser": "postgres",
            "database": "tenants",
            "control": "sandbox",
            "control_text": "'sandbox'",
        }
        await ours.close()
        yield Stage(mine, own_url, other, theirs, names)
        await bot.close()
        await theirs.close()
        for held in (mine, other):
            await core.manager.destroy(BOB.__class__("test", is_bot_owner=True), held.sandbox.name)


@pytest.mark.parametrize("attack", POSTGRES, ids=str)
async def test_attack(stage: Stage, attack: Attack) -> None:
    address = PostgresAddress.parse(stage.mine.variables["DATABASE_URL"])
    # What goes through stays, so that the neighbour would notice.
    came = await PostgresAttacker(address, stage.names, undo=False).attempt(attack)
    expect(attack, came)
    if "PASSWORD 'chosen'" in attack.tried[-1]:
        chosen = await asyncpg.connect(stage.own_url, password="chosen")
        await chosen.close()
    assert await stage.intact()
