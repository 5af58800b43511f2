"""The commands of a sandbox's bot: its scopes, and what becomes of them in its servers at Discord."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from discord_sim import SimGuild
from sandbox_core.postgres import commands as table
from sandbox_core.postgres.pool import connected

from .calls import calling, names, slash
from .stage import ALICE, BOB, Process, Stage, until


def production_has(stage: Stage, guild: SimGuild) -> list[dict[str, Any]]:
    """Give the server a command of production's and `/sandbox`; return them as they are."""
    registry = stage.sim.world.commands
    registry.create(guild.id, slash("deploy", options=[{"type": 3, "name": "where", "description": "it"}]))
    registry.create(guild.id, slash("sandbox"))
    return there(stage, guild)


def there(stage: Stage, guild: SimGuild, *without: str) -> list[dict[str, Any]]:
    """What the server has. A version is of each writing, and of no meaning to anybody else."""
    found = stage.sim.world.commands.in_scope(guild.id)
    return [{**each, "version": ""} for each in found if each["name"] not in without]


async def test_global_commands_become_those_of_the_servers(stage: Stage, process: Process) -> None:
    first, second, other = stage.guilds[:3]
    theirs = production_has(stage, first)
    mine = await stage.sandbox("mine", first, second)
    stage.sim.world.commands.replace(None, [slash("everywhere")])
    async with calling(stage, mine, process) as bot:
        assert await bot.ask("GET") == (200, [])
        status, made = await bot.ask("PUT", body=[slash("ping"), slash("pong", contexts=[0, 1])])
        assert status == 200
        assert [each["name"] for each in made] == ["ping", "pong"]
        assert all("guild_id" not in each for each in made)
        assert made[1]["contexts"] == [0, 1]
        assert names(stage.sim, first) == ["deploy", "ping", "pong", "sandbox"]
        assert names(stage.sim, second) == ["ping", "pong"]
        assert names(stage.sim, other) == []
        assert (await bot.ask("GET", query="?with_localizations=true"))[1] == made
        assert await bot.ask("GET", command_id=made[0]["id"]) == (200, made[0])
        # At the next start of the bot nothing is new.
        before = stage.sim.world.commands.in_scope(second.id)
        assert await bot.ask("PUT", body=[slash("ping"), slash("pong", contexts=[0, 1])]) == (200, made)
        assert stage.sim.world.commands.in_scope(second.id) == before
        assert await bot.ask("PUT", body=[]) == (200, [])
        assert there(stage, first) == theirs
        assert names(stage.sim, second) == []
    assert [each["name"] for each in stage.sim.world.commands.in_scope(None)] == ["everywhere"]


async def test_single_commands(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    theirs = production_has(stage, guild)
    mine = await stage.sandbox("mine", guild)
    async with calling(stage, mine, process) as bot:
        status, ping = await bot.ask("POST", body=slash("ping"))
        assert status == 201
        status, again = await bot.ask("POST", body=slash("ping", "does more"))
        assert (status, again["id"], again["description"]) == (200, ping["id"], "does more")
        status, own = await bot.ask("POST", guild, body=slash("own"))
        assert (status, own["guild_id"]) == (201, str(guild.id))
        assert [each["name"] for each in (await bot.ask("GET", guild))[1]] == ["own"]
        assert [each["name"] for each in (await bot.ask("GET"))[1]] == ["ping"]
        status, renamed = await bot.ask("PATCH", command_id=ping["id"], body={"name": "pang"})
        assert (status, renamed["id"], renamed["description"]) == (200, ping["id"], "does more")
        assert names(stage.sim, guild) == ["deploy", "own", "pang", "sandbox"]
        # Of another scope, and of production's.
        for command_id in (own["id"], theirs[0]["id"]):
            for method in ("GET", "PATCH", "DELETE"):
                body = {"description": "mine now"} if method == "PATCH" else None
                status, answer = await bot.ask(method, command_id=command_id, body=body)
                assert (status, answer["code"]) == (404, 10063)
        assert await bot.ask("DELETE", command_id=ping["id"]) == (204, None)
        assert await bot.ask("DELETE", guild, own["id"]) == (204, None)
        assert there(stage, guild) == theirs
        assert (await bot.ask("DELETE", command_id=ping["id"]))[0] == 404


async def test_a_servers_own_command_comes_before_the_global_one(stage: Stage, process: Process) -> None:
    first, second = stage.guilds[:2]
    mine = await stage.sandbox("mine", first, second)
    registry = stage.sim.world.commands
    async with calling(stage, mine, process) as bot:
        await bot.ask("PUT", body=[slash("ping", "global")])
        await bot.ask("PUT", first, body=[slash("ping", "own")])
        assert [each["description"] for each in registry.in_scope(first.id)] == ["own"]
        assert [each["description"] for each in registry.in_scope(second.id)] == ["global"]
        await bot.ask("PUT", first, body=[])
        await until(lambda: [e["description"] for e in registry.in_scope(first.id)] == ["global"])


async def test_names_of_others_stay_theirs(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    theirs = production_has(stage, guild)
    mine = await stage.sandbox("mine", guild)
    async with calling(stage, mine, process) as bot:
        bodies = [slash("deploy", "mine"), slash("sandbox", "mine"), slash("ping"), slash("pong")]
        status, made = await bot.ask("PUT", body=bodies)
        assert (status, [each["name"] for each in made]) == (200, ["deploy", "sandbox", "ping", "pong"])
        assert there(stage, guild, "ping", "pong") == theirs
        assert names(stage.sim, guild) == ["deploy", "ping", "pong", "sandbox"]
    await stage.core.manager.destroy(ALICE, "mine")
    await until(lambda: names(stage.sim, guild) == ["deploy", "sandbox"])


async def test_only_what_is_for_servers_comes_there(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with calling(stage, mine, process) as bot:
        bodies = [slash("private", contexts=[1]), slash("installed", integration_types=[1]), slash("ping")]
        status, made = await bot.ask("PUT", body=bodies)
        assert status == 200
        assert [each["contexts"] for each in made] == [[1], None, None]
        assert names(stage.sim, guild) == ["ping"]
        assert [each["name"] for each in (await bot.ask("GET"))[1]] == ["private", "installed", "ping"]


async def test_discords_refusal_changes_nothing(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with calling(stage, mine, process) as bot:
        _, made = await bot.ask("PUT", body=[slash("ping")])
        for wrong in (
            [slash("ping"), slash("Loud")],
            [slash("ping"), slash("long", "x" * 101), slash("fine")],
            [slash("ping"), slash("ping")],
            [slash(f"c{number}") for number in range(101)],
            [{"name": "ping", "description": "does it", "type": []}],
            {"name": "ping"},
        ):
            status, answer = await bot.ask("PUT", body=wrong)
            assert (status, answer["code"]) in {(400, 50035), (400, 30032)}
            assert await bot.ask("GET", query="?with_localizations=true") == (200, made)
            assert names(stage.sim, guild) == ["ping"]


async def test_servers_come_and_go(stage: Stage, process: Process) -> None:
    first, second = stage.guilds[:2]
    mine = await stage.sandbox("mine")
    async with calling(stage, mine, process) as bot:
        # Before it has a server nobody says what is wrong with a body.
        status, made = await bot.ask("PUT", body=[slash("ping"), slash("pong")])
        assert (status, len(made)) == (200, 2)
        status, answer = await bot.ask(
            "PUT", body=[slash(f"c{number}", "x" * 50_000) for number in range(50)]
        )
        assert (status, answer["code"]) == (413, 40005)
        await stage.register("mine", first)
        await until(lambda: names(stage.sim, first) == ["ping", "pong"])
        await stage.register("mine", second)
        await until(lambda: names(stage.sim, second) == ["ping", "pong"])
        await stage.unregister(first)
        await until(lambda: names(stage.sim, first) == [])
        status, answer = await bot.ask("GET", first)
        assert (status, answer["code"]) == (403, 50001)
        # The next sandbox of the server has its own.
        yours = await stage.sandbox("yours", first, owner=BOB)
        async with calling(stage, yours, process) as other:
            assert await other.ask("GET") == (200, [])
            assert (await other.ask("PUT", body=[slash("mine-now")]))[0] == 200
        assert (names(stage.sim, first), names(stage.sim, second)) == (["mine-now"], ["ping", "pong"])
    await stage.core.manager.destroy(ALICE, "mine")
    await until(lambda: names(stage.sim, second) == [])
    await stage.core.manager.destroy(BOB, "yours")
    await until(lambda: names(stage.sim, first) == [])
    async with connected(stage.core.pool) as connection:
        await until_async(lambda: rows_of(connection))


async def rows_of(connection: Any) -> bool:
    counts = [
        await connection.fetchval(f"SELECT count(*) FROM {name}")
        for name in ("sandbox_commands", "sandbox_guild_commands")
    ]
    return counts == [0, 0]


async def until_async(what: Any) -> None:
    async with asyncio.timeout(20):
        while not await what():
            await asyncio.sleep(0.05)


async def test_an_expired_sandbox_leaves_none(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with calling(stage, mine, process) as bot:
        await bot.ask("PUT", body=[slash("ping")])
    async with connected(stage.core.pool) as connection:
        await connection.execute(
            "UPDATE sandboxes SET created_at = now() - interval '1 hour', expires_at = now() WHERE id = $1",
            mine.id,
        )
    await until(lambda: names(stage.sim, guild) == [])


async def test_what_a_dead_process_has_begun_is_brought_to_its_end(stage: Stage) -> None:
    first, second = stage.guilds[:2]
    mine = await stage.sandbox("mine", first, second)
    one = await stage.start()
    async with calling(stage, mine, one) as bot:
        await bot.ask("PUT", body=[slash("ping"), slash("pong")])
    stage.processes.remove(one)
    await one.stop()
    registry = stage.sim.world.commands
    # It had said what it would do, and done it, and died before it could say that it was done.
    async with connected(stage.core.pool) as connection:
        begun = [
            table.Written(1, "half", None, "1", "", False),
            table.Written(1, "never", None, "2", "", False),
        ]
        await table.note(connection, str(first.id), begun)
    registry.create(first.id, slash("half"))
    registry.create(first.id, slash("of-production"))
    # And somebody has removed one; and a server was given back while no process ran.
    registry.delete(first.id, next(int(e["id"]) for e in registry.in_scope(first.id) if e["name"] == "pong"))
    await stage.unregister(second)
    assert names(stage.sim, second) == ["ping", "pong"]
    await stage.start()
    await until(lambda: names(stage.sim, first) == ["of-production", "ping", "pong"])
    await until(lambda: names(stage.sim, second) == [])


async def test_two_processes_and_two_sandboxes_at_once(stage: Stage) -> None:
    first, second = stage.guilds[:2]
    theirs = {guild.id: production_has(stage, guild) for guild in (first, second)}
    mine, yours = await stage.sandbox("mine", first), await stage.sandbox("yours", second, owner=BOB)
    processes = [await stage.start(), await stage.start()]

    async def write(sandbox: Any, process: Process, word: str) -> list[tuple[int, Any]]:
        async with calling(stage, sandbox, process) as bot:
            return [await bot.ask("POST", body=slash(f"{word}-{number}")) for number in range(5)]

    answers = await asyncio.gather(
        *(
            write(sandbox, process, f"{name}{number}")
            for number, process in enumerate(processes)
            for name, sandbox in (("mine", mine), ("yours", yours))
        )
    )
    assert {status for each in answers for status, _ in each} == {201}
    for name, guild in (("mine", first), ("yours", second)):
        expected = [f"{name}{process}-{number}" for process in range(2) for number in range(5)]
        assert names(stage.sim, guild) == sorted([*expected, "deploy", "sandbox"])
        assert there(stage, guild, *expected) == theirs[guild.id]


async def test_the_limit_of_a_day(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    today = dt.datetime.now(dt.UTC).date()
    async with connected(stage.core.pool) as connection:
        await table.add_creates(connection, str(guild.id), today, 198)
    async with calling(stage, mine, process) as bot:
        _, made = await bot.ask("PUT", body=[slash("ping"), slash("pong")])
        assert len(made) == 2
        status, answer = await bot.ask("POST", body=slash("more"))
        assert (status, answer["code"]) == (400, 30034)
        # To change one makes none.
        assert (await bot.ask("PATCH", command_id=made[0]["id"], body={"description": "other"}))[0] == 200
        assert names(stage.sim, guild) == ["ping", "pong"]


async def test_permissions(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with calling(stage, mine, process) as bot:
        _, ping = await bot.ask("POST", body=slash("ping"))
        assert await bot.ask("GET", stage.guilds[0], "permissions") == (200, [])
        body: dict[str, Any] = {"permissions": []}
        status, answer = await bot.ask("PUT", stage.guilds[0], f"{ping['id']}/permissions", body=body)
        assert (status, answer["code"]) == (403, 20001)


async def test_a_foreign_server_and_a_foreign_application(stage: Stage, process: Process) -> None:
    mine, foreign = await stage.sandbox("mine", stage.guilds[0]), stage.guilds[1]
    async with calling(stage, mine, process) as bot:
        for method in ("GET", "PUT"):
            status, answer = await bot.ask(method, foreign, body=None if method == "GET" else [slash("ping")])
            assert (status, answer["code"]) == (403, 50001)
        bot.application_id += 1
        assert (await bot.ask("PUT", body=[]))[0] == 403
    assert names(stage.sim, foreign) == []
