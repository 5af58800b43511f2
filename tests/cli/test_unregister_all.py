"""`unregister-guild --all`: everything, a developer's or a sandbox's servers go to production again."""

from __future__ import annotations

import asyncpg

from .conftest import ALICE, BOB, Shell
from .schemas import check

GUILDS = tuple(str(100_000_000_000_000_001 + number) for number in range(4))


async def _mapped(database: asyncpg.Connection) -> set[str]:
    return {row["guild_id"] for row in await database.fetch("SELECT guild_id FROM sandbox_guild_mapping")}


async def test_from_one_sandbox_to_all_of_them(shell: Shell, database: asyncpg.Connection) -> None:
    first, second, third, fourth = GUILDS
    for name, owner in (("one", ALICE), ("two", ALICE), ("three", BOB)):
        await shell.ok("create", name, "--owner", owner)
    for name, guild in (("one", first), ("one", second), ("two", third), ("three", fourth)):
        await shell.ok("register-guild", name, guild, "--yes", "--unchecked")

    unanswered = await shell("unregister-guild", "--all")
    assert (unanswered.code, unanswered.out) == (2, "")
    assert await _mapped(database) == set(GUILDS)

    done = (await shell.ok("unregister-guild", "--all", "--name", "one", "--yes", "--json")).json
    check("unregister-guild --all", done)
    assert done == {
        "unregistered": [{"guild_id": first, "name": "one"}, {"guild_id": second, "name": "one"}],
        "failed": [],
        "unconfirmed": [],
    }
    as_alice = shell.having(SANDBOX_OWNER=ALICE)
    ended = await as_alice.ok("unregister-guild", "--all", "--yes")
    assert ended.out == "The events of 1 server go to production again.\n"
    assert await _mapped(database) == {fourth}

    theirs = await as_alice("unregister-guild", "--all", "--name", "three", "--yes")
    assert (theirs.code, theirs.err.split(":")[0]) == (1, "SANDBOX_010")
    await shell.ok("unregister-guild", "--all", "--yes")
    assert await _mapped(database) == set()
    assert (await shell.ok("unregister-guild", "--all", "--yes")).out == "No server is registered.\n"
    listed_now = (await shell.ok("list", "--json")).json["sandboxes"]
    assert {sandbox["status"] for sandbox in listed_now} == {"running"}
    await shell.ok("destroy", "one", "two", "three", "--yes")


async def test_a_server_or_all_of_them(shell: Shell) -> None:
    for arguments in ((), (GUILDS[0], "--all")):
        refused = await shell("unregister-guild", *arguments, "--yes")
        assert (refused.code, refused.err) == (2, "Say which: one SERVER_ID, or --all.\n")
