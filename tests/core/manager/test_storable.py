"""Text that no store takes as it is: halves of surrogate pairs, and NUL."""

from __future__ import annotations

import pytest

from sandbox_core.models import Actor, GuildAccess
from sandbox_core.postgres import connected, create_pool
from sandbox_core.redis.client import create_client
from sandbox_core.redis.confined import create_confined_client
from sandbox_core.words import storable, storable_json

from .conftest import World

ODD = "a\ud83d b\0 \udc00é🎉"
SHOWN = "a\ufffd b\ufffd \ufffdé🎉"


def test_the_replacement() -> None:
    assert storable(ODD) == SHOWN
    assert storable("é🎉\n") == "é🎉\n"
    value = {ODD: [ODD, {"x": (ODD, 1, None, True)}]}
    assert storable_json(value) == {SHOWN: [SHOWN, {"x": [SHOWN, 1, None, True]}]}
    assert Actor("1", ODD).display_name == GuildAccess("1", True, True, ODD).name == SHOWN


@pytest.mark.parametrize("kind", ["text", "varchar"])
async def test_postgres_gets_every_text(database_url: str, kind: str) -> None:
    async with await create_pool(database_url) as pool, connected(pool) as connection:
        await connection.execute(f"CREATE TEMP TABLE odd (value {kind}, document jsonb)")
        await connection.executemany("INSERT INTO odd VALUES ($1, $2)", [(ODD, {ODD: ODD})])
        await connection.copy_records_to_table("odd", records=[(ODD,), (None,)], columns=["value"])
        rows = await connection.fetch("SELECT value, document FROM odd")
        assert [row["value"] for row in rows] == [SHOWN, SHOWN, None]
        assert rows[0]["document"] == {SHOWN: SHOWN}
        # What looks like an escape and is none stays.
        assert await connection.fetchval("SELECT $1::jsonb", {"x": r"\u0000 \ud800 🎉"}) == {
            "x": r"\u0000 \ud800 🎉"
        }
        with pytest.raises(Exception, match="expected str"):
            await connection.fetchval(f"SELECT $1::{kind}", 1)


async def test_redis_gets_every_text(redis_url: str) -> None:
    async with create_client(redis_url) as client:
        await client.set("key", ODD)
        assert await client.get("key") == "a\ufffd b\0 \ufffdé🎉"
        await client.execute_command("SET", "bytes", b"\xff\xfe")
        await client.set("copy", await client.get("bytes"))
        assert await client.execute_command("STRLEN", "copy") == 2
    async with create_confined_client(redis_url, "sandbox:x:", client_name="worker") as confined:
        await confined.set(ODD, ODD)
        assert await confined.get(ODD) == "a\ufffd b\0 \ufffdé🎉"


async def test_a_person_and_a_server_with_such_names(world: World) -> None:
    actor = Actor("200000000000000005", ODD)
    access = GuildAccess("100000000000000005", bot_is_member=True, caller_manages=True, name=ODD)
    made = (await world.manager.create(actor, guilds=[access])).sandbox
    assert made.owner_name == SHOWN
    found = await world.manager.get(made.name)
    assert (found, found.owner_name) == (made, SHOWN)
    await world.manager.extend(Actor("cli", ODD, is_bot_owner=True, via=ODD), made.name, "1h")
    assert SHOWN in (await world.audit(made.id))[-1].actor
    await world.manager.destroy(actor, made.name)
