"""What a process leaves that dies while it writes commands, and who removes it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import discord
import pytest
from discord.ext import commands

from sandbox_cogs.upkeep._guild_commands import LeftCommands
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import program

from .calls import Caller, calling, names, slash
from .front import environment_of
from .stage import ALICE, Addresses, Process, Stage, until
from .test_commands import production_has, there

pytestmark = pytest.mark.usefixtures("discord_untouched")


async def ready(port: int) -> bool:
    try:
        return (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200
    except OSError:
        return False


async def test_a_process_that_is_killed_right_after_discord_has_done_it(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guild, registry = stage.guilds[0], stage.sim.world.commands
    theirs = production_has(stage, guild)
    mine = await stage.sandbox("mine", guild)
    ports, settings = (free_port(), free_port()), environment_of(stage.settings)

    def running(port: int) -> Any:
        return program(
            "sandbox_bot", "gateway", directory=tmp_path, SANDBOX_GATEWAY_PORT=str(port), **settings
        )

    async with running(ports[0]) as first:
        await eventually(lambda: ready(ports[0]))
        async with calling(stage, mine, Addresses(f"http://127.0.0.1:{ports[0]}")) as bot:
            _, made = await bot.ask("PUT", body=[slash("ping"), slash("pong")])
            replace = registry.replace

            def replace_and_kill(*arguments: Any) -> Any:
                done = replace(*arguments)
                os.kill(first.pid, signal.SIGKILL)
                return done

            monkeypatch.setattr(registry, "replace", replace_and_kill)
            with pytest.raises(aiohttp.ClientError):
                await bot.ask("PUT", body=[slash("ping"), slash("new"), slash("newer")])
            monkeypatch.setattr(registry, "replace", replace)
        await first.exit_code()
    assert names(stage.sim, guild) == ["deploy", "new", "newer", "ping", "sandbox"]
    async with running(ports[1]):
        # The bot got no answer, so what it had before is what it has; and it can do it again.
        await until(lambda: names(stage.sim, guild) == ["deploy", "ping", "pong", "sandbox"])
        async with calling(stage, mine, Addresses(f"http://127.0.0.1:{ports[1]}")) as bot:
            assert await bot.ask("GET", query="?with_localizations=true") == (200, made)
            status, _ = await bot.ask("PUT", body=[slash("ping"), slash("new"), slash("newer")])
            assert status == 200
            assert names(stage.sim, guild) == ["deploy", "new", "newer", "ping", "sandbox"]
        await stage.core.manager.destroy(ALICE, "mine")
        await until(lambda: there(stage, guild) == theirs)


async def test_the_bot_removes_them_where_no_process_of_the_endpoint_does(
    stage: Stage, process: Process
) -> None:
    first, second = stage.guilds[:2]
    theirs = production_has(stage, first)
    mine = await stage.sandbox("mine", first, second)
    async with calling(stage, mine, process) as bot:
        await bot.ask("PUT", body=[slash("ping"), slash("pong")])
    stage.processes.remove(process)
    await process.stop()
    await stage.core.manager.destroy(ALICE, "mine")
    assert names(stage.sim, second) == ["ping", "pong"]
    discord.http.Route.BASE = stage.sim.api_url
    async with commands.Bot("!", intents=discord.Intents.none()) as own:
        await own.login(stage.sim.token)
        left = LeftCommands(own, stage.core.pool)
        await left.turn()
        # It may be under way elsewhere.
        assert names(stage.sim, second) == ["ping", "pong"]
        await left.turn()
    assert there(stage, first) == theirs
    assert names(stage.sim, second) == []


async def test_a_server_that_takes_no_commands_does_not_keep_the_others_from_theirs(
    stage: Stage, process: Process
) -> None:
    first, second = sorted(stage.guilds[:2], key=lambda guild: str(guild.id))
    first.takes_commands = False
    mine = await stage.sandbox("mine", first, second)
    async with calling(stage, mine, process) as bot:
        assert (await bot.ask("PUT", body=[slash("ping")]))[0] == 200
        assert names(stage.sim, second) == ["ping"]
        status, answer = await bot.ask("PUT", first, body=[slash("own")])
        assert (status, answer["code"]) == (403, 50001)
        assert await bot.ask("GET", first) == (200, [])


async def test_two_calls_of_one_sandbox_at_once_are_one_after_the_other(stage: Stage) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    processes = [await stage.start(), await stage.start()]

    async def overwrite(bot: Caller, word: str) -> Any:
        return (await bot.ask("PUT", body=[slash(f"{word}-{number}") for number in range(3)]))[1]

    async with calling(stage, mine, processes[0]) as one, calling(stage, mine, processes[1]) as two:
        for _ in range(3):
            answers = await asyncio.gather(*(overwrite(bot, word) for bot, word in ((one, "a"), (two, "b"))))
            _, last = await one.ask("GET", query="?with_localizations=true")
            assert last in answers
            await until(lambda last=last: names(stage.sim, guild) == sorted(each["name"] for each in last))
