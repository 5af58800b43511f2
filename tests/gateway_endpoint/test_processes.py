"""`sandboxctl gateway` as a process: killed, stopped as planned, and below `run --embedded`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from discord_sim import DiscordSim
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import program
from tests.forked import ROOT

from .front import environment_of, front
from .pybot import Addresses, running
from .stage import Stage, until

pytestmark = pytest.mark.usefixtures("discord_untouched")


async def ready(port: int) -> bool:
    try:
        return (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_a_bot_goes_on_at_another_process(stage: Stage, tmp_path: Path, end: signal.Signals) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with front() as address:
        settings = environment_of(stage.settings, sandbox_gateway_url=address.url)
        first, second = (
            program("sandbox_bot", "gateway", directory=tmp_path, SANDBOX_GATEWAY_PORT=str(port), **settings)
            for port in address.ports
        )
        async with first as one, second as two:
            for port in address.ports:
                await eventually(lambda port=port: ready(port))
            async with running(stage.token(mine), Addresses(address.url)) as bot:
                expected = [f"{number}" for number in range(400)]
                for number, text in enumerate(expected):
                    stage.sim.message(guild, content=text)
                    if number == 100:
                        await until(lambda: len(bot.contents) > 50)
                        one.signal(end)
                    if number > 100:
                        await asyncio.sleep(0.002)
                await until(lambda: len(bot.contents) >= len(expected), within=40)
                assert bot.contents == expected
                assert bot.identified == 1
                assert bot.resumed >= 1
            two.signal(signal.SIGTERM)
            assert await two.exit_code() == 0
            assert await one.exit_code() == (0 if end is signal.SIGTERM else -signal.SIGKILL)
            assert "Traceback" not in one.errors + two.errors
            token = stage.token(mine)
            for secret in (token, token.rsplit(".", 1)[1], stage.sim.token):
                assert secret not in one.errors + two.errors


async def test_a_restart_on_one_port_loses_nothing_and_refuses_nobody(stage: Stage, tmp_path: Path) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    port = free_port()
    address = Addresses(f"http://127.0.0.1:{port}")
    settings = environment_of(stage.settings, sandbox_gateway_url=address.url, sandbox_gateway_port=port)
    words = ("sandbox_bot", "gateway", "--reuse-port")
    refused: list[str] = []

    async def connect_again_and_again() -> None:
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
            except ConnectionRefusedError as error:
                refused.append(str(error))
            await asyncio.sleep(0.001)

    async with program(*words, directory=tmp_path, **settings) as one:
        await eventually(lambda: ready(port))
        knocking = asyncio.create_task(connect_again_and_again())
        async with (
            running(stage.token(mine), address) as bot,
            program(*words, directory=tmp_path, **settings) as two,
        ):
            expected = [f"{number}" for number in range(300)]
            for number, text in enumerate(expected):
                stage.sim.message(guild, content=text)
                if number == 100:
                    await until(lambda: len(bot.contents) > 50)
                    await eventually(lambda: "client_gateway_listening" in two.errors)
                    one.signal(signal.SIGTERM)
                await asyncio.sleep(0.005)
            await until(lambda: len(bot.contents) >= len(expected), within=40)
            assert await one.exit_code() == 0
            assert bot.contents == expected
            assert (bot.identified, bot.resumed) == (1, 1)
            assert refused == []
            knocking.cancel()
            await asyncio.gather(knocking, return_exceptions=True)
            two.signal(signal.SIGTERM)
            assert await two.exit_code() == 0
            assert "Traceback" not in one.errors + two.errors


async def test_without_the_option_a_port_is_one_process_s(stage: Stage, tmp_path: Path) -> None:
    port = free_port()
    settings = environment_of(stage.settings, sandbox_gateway_port=port)
    async with program("sandbox_bot", "gateway", directory=tmp_path, **settings) as one:
        await eventually(lambda: ready(port))
        for option in ((), ("--reuse-port",)):
            async with program("sandbox_bot", "gateway", *option, directory=tmp_path, **settings) as two:
                assert await two.exit_code() == 2
                assert f"can't listen on 127.0.0.1:{port}" in two.errors
        one.signal(signal.SIGTERM)
        assert await one.exit_code() == 0


async def test_run_embedded_starts_and_ends_it(sim: DiscordSim, tmp_path: Path) -> None:
    alice = sim.add_user("alice")
    dev = sim.add_guild("dev", owner=alice)
    place, ops = free_port(), free_port()
    environment = {
        "DISCORD_TOKEN": sim.token,
        "DISCORD_API_URL": sim.api_url,
        "DISCORD_DEV_GUILD_IDS": str(dev.id),
        "OPS_PORT": str(ops),
        "SANDBOX_GATEWAY_PORT": str(place),
    }
    data = tmp_path / "data"
    arguments = ("sandbox_bot", "run", "--embedded", "--data-dir", str(data))
    async with program(*arguments, directory=tmp_path, **environment) as running_bot:
        await eventually(lambda: ready(ops))
        await eventually(lambda: ready(place))
        created = await sim.slash(alice, dev.default_channel, "sandbox create", name="mine")
        assert "mine is running" in created.text
        shown = await sim.slash(alice, dev.default_channel, "sandbox connect", name="mine")
        assert f'DISCORD_API_URL="http://127.0.0.1:{place}/api/v10"' in shown.text
        assert f'DISCORD_GATEWAY_URL="ws://127.0.0.1:{place}/"' in shown.text
        assert "DISCORD_TOKEN=" in shown.text
        assert f'DISCORD_TOKEN="{sim.token}"' not in shown.text
        # Another shell: the bot's Python stays first on the path, and the token is in no file.
        own = tmp_path / "own"
        own.mkdir()
        (own / "python").symlink_to("/bin/echo")
        words = f". {data}/shell; sandboxctl exec mine -- sh -c 'echo \"$DISCORD_API_URL\"; python own'"
        others = {name: environment[name] for name in ("SANDBOX_GATEWAY_PORT", "DISCORD_TOKEN")}
        shell = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", words),
            env={"PATH": f"{own}:/usr/bin:/bin", "HOME": str(tmp_path), **others},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await shell.communicate()
        assert said.decode().splitlines() == [f"http://127.0.0.1:{place}/api/v10", "own"]
        assert sim.token not in (data / "shell").read_text()
        assert (data / "shell").stat().st_mode & 0o777 == 0o600
        running_bot.look_at_family()
        running_bot.signal(signal.SIGTERM)
        assert await running_bot.exit_code() == 0
        assert "Traceback" not in running_bot.errors
    assert not (data / "shell").exists()


async def test_without_its_settings_it_does_not_start(stage: Stage, tmp_path: Path) -> None:
    settings = environment_of(stage.settings) | {"SANDBOX_ISOLATION": "convention"}
    for name in ("DISCORD_TOKEN", "SANDBOX_CREDENTIALS_KEY", "SANDBOX_NATS_URL"):
        del settings[name]
    async with program("sandbox_bot", "gateway", directory=tmp_path, **settings) as endpoint:
        assert await endpoint.exit_code() == 2
        assert [line.split()[0] for line in endpoint.errors.splitlines()] == [
            "DISCORD_TOKEN",
            "SANDBOX_CREDENTIALS_KEY",
        ]


async def test_exec_runs_an_ordinary_bot(stage: Stage, tmp_path: Path) -> None:
    guild = stage.guilds[0]
    await stage.sandbox("mine", guild)
    settings = environment_of(stage.settings, sandbox_gateway_port=free_port())
    port = int(settings["SANDBOX_GATEWAY_PORT"])
    async with program("sandbox_bot", "gateway", directory=tmp_path, **settings) as endpoint:
        await eventually(lambda: ready(port))
        words = ("exec", "mine", "--", sys.executable, str(ROOT / "docs" / "client_example.py"))
        async with program("sandbox_bot", *words, directory=tmp_path, **settings) as bot:
            pongs = stage.sim.world.messages.setdefault(guild.default_channel.id, {})

            async def answered() -> bool:
                assert bot.running, bot.errors
                stage.sim.message(guild, content="ping")
                await asyncio.sleep(0.2)
                return any(message.content == "pong" for message in pongs.values())

            await eventually(answered)
            bot.signal(signal.SIGINT)
            await bot.exit_code()
        endpoint.signal(signal.SIGTERM)
        assert await endpoint.exit_code() == 0
