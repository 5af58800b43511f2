"""Production's commands: really its own, and never at the cost of a sandbox's, or of `/sandbox`."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from discord_sim import SimGuild
from sandbox_core.postgres import commands as table
from sandbox_core.postgres.pool import connected
from tests.e2e.harness import eventually, free_port
from tests.e2e.programs import program
from tests.gateway_endpoint.calls import Caller, calling, names, slash
from tests.gateway_endpoint.front import environment_of
from tests.gateway_endpoint.stage import Addresses, Process, Stage, until
from tests.gateway_endpoint.test_commands_left import ready


@pytest.fixture
async def bot(stage: Stage, process: Process, token: str) -> AsyncIterator[Caller]:
    """Production's bot, without a library."""
    async with aiohttp.ClientSession() as http:
        yield Caller(http, process, token, stage.sim.application_id)


def everywhere(stage: Stage) -> list[str]:
    """The names of the global commands that Discord has."""
    return sorted(each["name"] for each in stage.sim.world.commands.in_scope(None))


async def test_global_commands_are_discords_own(stage: Stage, bot: Caller) -> None:
    stage.sim.world.commands.create(None, slash("sandbox"))
    status, made = await bot.ask("PUT", body=[slash("ping"), slash("pong", contexts=[0, 1])])
    assert status == 200
    assert [each["name"] for each in made] == ["ping", "pong"]
    assert made[1]["contexts"] == [0, 1]
    assert everywhere(stage) == ["ping", "pong", "sandbox"]
    discords = {each["name"]: each["id"] for each in stage.sim.world.commands.in_scope(None)}
    assert {each["name"]: each["id"] for each in made} == {name: discords[name] for name in ("ping", "pong")}
    assert [each["name"] for each in (await bot.ask("GET"))[1]] == ["ping", "pong"]
    status, one = await bot.ask("POST", body=slash("one"))
    assert status == 201
    assert (await bot.ask("PATCH", command_id=one["id"], body={"name": "uno"}))[1]["name"] == "uno"
    assert await bot.ask("DELETE", command_id=one["id"]) == (204, None)
    # Its own /sandbox, if it has one, is its own.
    await bot.ask("PUT", body=[slash("sandbox", "of production")])
    (found,) = stage.sim.world.commands.in_scope(None)
    assert found["description"] == "of production"
    assert await bot.ask("PUT", body=[]) == (200, [])
    assert everywhere(stage) == ["sandbox"]


async def test_a_servers_commands_do_not_lose_the_sandboxs(
    stage: Stage, process: Process, bot: Caller
) -> None:
    guild, free = stage.guilds[:2]
    registry = stage.sim.world.commands
    registry.create(guild.id, slash("sandbox"))
    mine = await stage.sandbox("mine", guild)
    async with calling(stage, mine, process) as theirs:
        await theirs.ask("PUT", body=[slash("hello"), slash("deploy")])
        assert names(stage.sim, guild) == ["deploy", "hello", "sandbox"]
        assert await bot.ask("GET", guild) == (200, [])
        status, made = await bot.ask("PUT", guild, body=[slash("own"), slash("deploy", "production's")])
        assert (status, [each["name"] for each in made]) == (200, ["own", "deploy"])
        assert names(stage.sim, guild) == ["deploy", "hello", "own", "sandbox"]
        # What production names is production's, and the keeper leaves it so.
        await theirs.ask("POST", body=slash("more"))
        assert _description(stage, guild, "deploy") == "production's"
        assert sorted(each["name"] for each in (await bot.ask("GET", guild))[1]) == ["deploy", "own"]
        assert await bot.ask("PUT", guild, body=[]) == (200, [])
        assert names(stage.sim, guild) == ["hello", "more", "sandbox"]
        await bot.ask("POST", guild, body=slash("hello", "production's"))
        async with connected(stage.core.pool) as connection:
            rows = {row.name: row.others for row in await table.written(connection, str(guild.id))}
        assert rows["hello"] is True
    # Where no sandbox is, nothing is kept.
    await bot.ask("PUT", free, body=[slash("a"), slash("b")])
    assert names(stage.sim, free) == ["a", "b"]
    assert await bot.ask("PUT", free, body=[]) == (200, [])
    assert names(stage.sim, free) == []
    await stage.unregister(guild)
    await until(lambda: names(stage.sim, guild) == ["hello", "sandbox"])
    assert _description(stage, guild, "hello") == "production's"


@pytest.mark.parametrize(("method", "does"), [("POST", "create"), ("PUT", "replace")])
async def test_what_is_productions_stays_though_the_process_died_right_after_discord_had_it(
    stage: Stage,
    process: Process,
    token: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    does: str,
) -> None:
    guild, registry, port = stage.guilds[0], stage.sim.world.commands, free_port()
    mine = await stage.sandbox("mine", guild)
    async with calling(stage, mine, process) as theirs:
        await theirs.ask("PUT", body=[slash("hello"), slash("deploy")])
    settings = environment_of(stage.settings)
    async with (
        program(
            "sandbox_bot", "gateway", directory=tmp_path, SANDBOX_GATEWAY_PORT=str(port), **settings
        ) as other,
        aiohttp.ClientSession() as http,
    ):
        await eventually(lambda: ready(port))
        bot = Caller(http, Addresses(f"http://127.0.0.1:{port}"), token, stage.sim.application_id)
        one = slash("deploy", "production's")
        done = getattr(registry, does)

        def do_and_kill(*arguments: Any) -> Any:
            answer = done(*arguments)
            os.kill(other.pid, signal.SIGKILL)
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(registry, does, do_and_kill)
            with pytest.raises(aiohttp.ClientError):
                await bot.ask(method, guild, body=one if method == "POST" else [one])
        await other.exit_code()
    await stage.unregister(guild)
    await until(lambda: names(stage.sim, guild) == ["deploy"])
    assert _description(stage, guild, "deploy") == "production's"


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_what_discord_refuses_production_stays_the_sandboxs(
    stage: Stage, process: Process, bot: Caller, method: str
) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with calling(stage, mine, process) as theirs:
        await theirs.ask("PUT", body=[slash("hello")])
    wrong = slash("hello", "x" * 101)
    status, _ = await bot.ask(method, guild, body=wrong if method == "POST" else [wrong])
    assert status == 400
    assert await bot.ask("GET", guild) == (200, [])
    await stage.unregister(guild)
    await until(lambda: names(stage.sim, guild) == [])


async def test_what_discord_refuses_is_refused(stage: Stage, bot: Caller) -> None:
    guild = stage.guilds[0]
    status, answer = await bot.ask("PUT", guild, body=[slash("UPPER CASE")])
    assert (status, answer["code"]) == (400, 50035)
    for wrong in ({"no": "list"}, [{**slash("ping"), "type": {"a": 1}}]):
        status, answer = await bot.ask("PUT", guild, body=wrong)
        assert (status, answer["code"]) == (400, 50035)
    assert names(stage.sim, guild) == []


def _description(stage: Stage, guild: SimGuild, name: str) -> str:
    found = next(each for each in stage.sim.world.commands.in_scope(guild.id) if each["name"] == name)
    return str(found["description"])


async def test_a_compressed_list_is_refused_and_other_bodies_pass(stage: Stage, bot: Caller) -> None:
    guild = stage.guilds[0]
    stage.sim.world.commands.create(guild.id, slash("sandbox"))
    headers = {
        "Authorization": f"Bot {bot.token}",
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
    }
    base = bot.address.api_url
    commands = f"{base}/applications/{bot.application_id}/guilds/{guild.id}/commands"
    async with bot.http.put(commands, data=gzip.compress(b"[]"), headers=headers) as answer:
        assert answer.status == 415
    assert names(stage.sim, guild) == ["sandbox"]
    channel_id = next(iter(guild.channels))
    body = gzip.compress(json.dumps({"content": "small"}).encode())
    async with bot.http.post(f"{base}/channels/{channel_id}/messages", data=body, headers=headers) as answer:
        assert (answer.status, (await answer.json())["content"]) == (200, "small")
