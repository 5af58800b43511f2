"""One sandbox's life from a shell, and the JSON of each step."""

from __future__ import annotations

import asyncio
import json
import signal

import asyncpg

from sandbox_bot.embedded import EmbeddedServers

from .conftest import ALICE, BOB, GUILD, NOBODY_LISTENS, Shell
from .schemas import check


async def test_a_life_with_the_json_of_every_step(shell: Shell, database: asyncpg.Connection) -> None:
    made = (await shell.ok("create", "welcome-flow", "--owner", ALICE, "--ttl", "2h", "--json")).json
    check("create", made)
    assert (made["sandbox"]["name"], made["sandbox"]["status"]) == ("welcome-flow", "running")
    assert made["sandbox"]["owner"] == ALICE

    listing = (await shell.ok("list", "--json")).json
    check("list", listing)
    assert [sandbox["id"] for sandbox in listing["sandboxes"]] == [made["sandbox"]["id"]]

    state = (await shell.ok("status", "welcome-flow", "--json")).json
    check("status", state)
    assert {part["store"] for part in state["parts"]} >= {"PostgreSQL", "Redis", "NATS"}

    registered = (
        await shell.ok("register-guild", "welcome-flow", GUILD, "--unchecked", "--yes", "--json")
    ).json
    check("register-guild", registered)
    assert registered["sandbox"]["guild_ids"] == [GUILD]
    assert not registered["checked"]

    returned = (await shell.ok("unregister-guild", GUILD, "--json")).json
    check("unregister-guild", returned)
    assert returned["sandbox"]["guild_ids"] == []

    extended = (await shell.ok("extend", "welcome-flow", "900h", "--json")).json
    check("extend", extended)
    assert extended["capped"]

    variables = (await shell.ok("connect", "welcome-flow", "--json")).json
    check("connect", variables)
    assert variables["SANDBOX_ID"] == made["sandbox"]["id"]

    destroyed = (await shell.ok("destroy", "welcome-flow", "--yes", "--json")).json
    check("destroy", destroyed)
    assert [sandbox["status"] for sandbox in destroyed["destroyed"]] == ["destroyed"]
    assert (await shell.ok("list", "--json")).json == {"sandboxes": []}
    assert len((await shell.ok("list", "--all", "--owner", ALICE, "--json")).json["sandboxes"]) == 1
    assert not await database.fetchval(
        "SELECT count(*) FROM pg_namespace WHERE nspname = $1", made["sandbox"]["schema"]
    )

    log = (await shell.ok("audit", "welcome-flow", "--json")).json
    check("audit", log)
    events = [(entry["event"], entry["actor"].split(" for ")[1:]) for entry in log["entries"]]
    # Made for a developer; everything after that was the operator's doing.
    assert events[0] == ("sandbox_created", [ALICE])
    assert events[-1] == ("sandbox_destroyed", [])
    assert all(entry["actor"].startswith("cli:") for entry in log["entries"])


async def test_what_a_pipe_gets_is_plain(shell: Shell) -> None:
    await shell.ok("create", "plain", "--owner", ALICE)
    listing = (await shell.ok("list")).out
    headings, *rows = listing.splitlines()
    assert headings.split() == ["NAME", "ID", "OWNER", "STATUS", "SERVERS", "LEVEL", "BOTS", "ENDS"]
    assert [row.split()[0] for row in rows] == ["plain"]
    assert rows[0].split()[2:5] == [ALICE, "running", "0"]
    assert "Overall:" in (await shell.ok("status", "plain")).out
    assert "sandbox_created" in (await shell.ok("audit", "plain")).out
    # A pipe that is closed early is the reader's business.
    cut = await shell.script("sandboxctl list | true")
    assert (cut.code, cut.err) == (0, "")
    await shell.ok("destroy", "plain", "--yes")


async def test_one_developer_acts_on_their_own_only(shell: Shell) -> None:
    await shell.ok("create", "of-alice", "--owner", ALICE)
    as_bob = shell.having(SANDBOX_OWNER=BOB)
    for command in (
        ("destroy", "of-alice", "--yes"),
        ("extend", "of-alice", "1h"),
        ("connect", "of-alice"),
        ("exec", "of-alice", "--", "true"),
        ("register-guild", "of-alice", GUILD, "--yes"),
    ):
        refused = await as_bob(*command)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("SANDBOX_010: ")
    as_alice = shell.having(SANDBOX_OWNER=ALICE)
    assert "of-alice" in (await as_alice.ok("connect")).out
    # Nothing of Bob's, so nothing to do, and that is no error.
    done = (await as_bob.ok("destroy", "--all", "--yes", "--json")).json
    assert done == {"destroyed": [], "failed": [], "unconfirmed": []}
    done = (await as_alice.ok("destroy", "--all", "--yes", "--json")).json
    assert [sandbox["name"] for sandbox in done["destroyed"]] == ["of-alice"]


async def test_watching_writes_an_object_per_line_until_interrupted(shell: Shell) -> None:
    await shell.ok("create", "watched", "--owner", ALICE)
    process = await shell.start("status", "watched", "--watch", "--interval", "0.5", "--json")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        looks = [json.loads(await process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    ended = await shell.ended(process)
    assert (ended.code, ended.err) == (0, "")
    for look in looks:
        check("status", look)
    await shell.ok("destroy", "watched", "--yes")


async def test_commands_answer_with_redis_or_nats_away(shell: Shell) -> None:
    await shell.ok("create", "steady", "--owner", ALICE)
    for variable, store in (("REDIS_URL", "Redis"), ("NATS_URL", "NATS")):
        scheme = shell.env[variable].split("://")[0]
        partly = shell.having(**{variable: f"{scheme}://{NOBODY_LISTENS}"})
        state = (await partly.ok("status", "steady", "--json")).json
        check("status", state)
        states = {part["store"]: part["state"] for part in state["parts"]}
        assert (states[store], states["PostgreSQL"]) == ("unhealthy", "healthy")
        assert "steady" in (await partly.ok("list")).out
        assert "SANDBOX_NAME=steady" in (await partly.ok("connect", "steady")).out
        refused = await partly("create", "never", "--owner", ALICE)
        assert (refused.code, refused.out) == (3, "")
        assert refused.err.startswith(f"SANDBOX_012: {store} is unavailable")
    assert [s["name"] for s in (await shell.ok("list", "--json")).json["sandboxes"]] == ["steady"]
    await shell.ok("destroy", "steady", "--yes")


async def test_cleanup_and_orphans(
    shell: Shell, database: asyncpg.Connection, servers: EmbeddedServers
) -> None:
    await shell.ok("create", "short-lived", "--owner", ALICE)
    await database.execute("UPDATE sandboxes SET created_at = now() - interval '2 h'")
    await database.execute("UPDATE sandboxes SET expires_at = now() - interval '1 h'")
    done = (await shell.ok("cleanup", "--json")).json
    check("cleanup", done)
    assert [sandbox["name"] for sandbox in done["destroyed"]] == ["short-lived"]

    known = done["destroyed"][0]["id"][:8]
    for short in (known, "deadbeef"):
        await database.execute("SELECT create_sandbox_schema($1)", short)
    found = (await shell.ok("orphans", "--json")).json
    check("orphans", found)
    schemas = {o["name"]: o["known"] for o in found["found"] if o["store"] == "PostgreSQL"}
    assert schemas == {f"sandbox_{known}": True, "sandbox_deadbeef": False}

    # Without a row here a schema may be another installation's: that has to be said out loud.
    fixed = (await shell.ok("orphans", "--fix", "--yes", "--json")).json
    check("orphans", fixed)
    assert f"sandbox_{known}" in {o["name"] for o in fixed["removed"]}
    assert await database.fetchval("SELECT sandbox_schema_exists('deadbeef')")
    everything = await shell.ok("orphans", "--fix", "--unknown", "--yes")
    assert "sandbox_deadbeef" in everything.out
    assert not await database.fetchval("SELECT sandbox_schema_exists('deadbeef')")


async def test_several_cleanups_at_once_do_each_sandbox_once(
    shell: Shell, database: asyncpg.Connection
) -> None:
    made = {f"over-{number}" for number in range(8)}
    for number, name in enumerate(sorted(made)):
        await shell.ok("create", name, "--owner", (ALICE, BOB)[number % 2])
    await shell.ok("create", "stays", "--owner", ALICE)
    await database.execute(
        "UPDATE sandboxes SET created_at = now() - interval '2 h', expires_at = now() - interval '1 h'"
        " WHERE name LIKE 'over-%'"
    )
    ended = await asyncio.gather(*(shell.ok("cleanup", "--json") for _ in range(3)))
    for each in ended:
        check("cleanup", each.json)
        assert each.json["failed"] == []
    assert sorted(box["name"] for each in ended for box in each.json["destroyed"]) == sorted(made)
    finished = await database.fetch(
        "SELECT sandbox_id FROM sandbox_audit_log AS a JOIN sandboxes AS s ON s.id = a.sandbox_id"
        " WHERE s.name LIKE 'over-%' AND a.event_type = 'sandbox_destroyed'"
    )
    assert len(finished) == len({row["sandbox_id"] for row in finished}) == len(made)
    assert [box["name"] for box in (await shell.ok("list", "--json")).json["sandboxes"]] == ["stays"]
    await shell.ok("destroy", "stays", "--yes")
