"""The programs as processes: exit codes, sentences instead of tracebacks, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from discord_sim import DiscordSim
from sandbox_bot.embedded import EmbeddedServers
from tests.e2e.harness import eventually, free_port, get
from tests.e2e.programs import Program, program
from tests.embedded.processes import told_of


def discord_environment(sim: DiscordSim, dev_guild_id: int, port: int) -> dict[str, str]:
    """The variables for the simulator."""
    return {
        "DISCORD_TOKEN": sim.token,
        "DISCORD_API_URL": sim.api_url,
        "DISCORD_DEV_GUILD_IDS": str(dev_guild_id),
        "OPS_PORT": str(port),
    }


async def until_ready(running: Program, port: int) -> None:
    """Return when the bot is ready; fail with what it said when it ends instead."""

    async def ready() -> bool:
        assert running.running, running.errors
        return (await get(f"http://127.0.0.1:{port}", "/readyz"))[0] == 200

    await eventually(ready)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_run_embedded_from_start_to_stop_and_again(
    sim: DiscordSim, tmp_path: Path, stop: signal.Signals
) -> None:
    alice = sim.add_user("alice")
    dev = sim.add_guild("dev", owner=alice)
    port = free_port()
    environment = discord_environment(sim, dev.id, port)
    arguments = ("sandbox_bot", "run", "--embedded", "--data-dir", str(tmp_path / "data"))
    async with program(*arguments, directory=tmp_path, **environment) as running:
        await until_ready(running, port)
        running.look_at_family()
        assert len(running.family) >= 10, "five servers and their guards"
        _, body = await get(f"http://127.0.0.1:{port}", "/readyz")
        assert json.loads(body)["isolation"] == "enforced"
        created = await sim.slash(alice, dev.default_channel, "sandbox create", name="kept")
        assert "kept is running" in created.text
        running.signal(stop)
        assert await running.exit_code() == 0
        assert "Traceback" not in running.errors
    assert sim.sessions[-1].alive
    assert sim.sessions[-1].last_client_close not in (None, 1000, 1001)
    async with program(*arguments, directory=tmp_path, **environment) as running:
        await until_ready(running, port)
        running.look_at_family()
        listed = await sim.slash(alice, dev.default_channel, "sandbox list")
        assert "kept" in listed.text
        shown = await sim.slash(alice, dev.default_channel, "sandbox connect", name="kept")
        for variable in ("DATABASE_URL", "REDIS_URL", "NATS_URL"):
            assert variable in shown.text
        running.signal(stop)
        assert await running.exit_code() == 0
    assert sim.token not in running.errors


async def test_run_waits_for_discord(
    sim: DiscordSim, urls: dict[str, str], servers: EmbeddedServers, tmp_path: Path
) -> None:
    dev, port = sim.add_guild("dev"), free_port()
    environment = discord_environment(sim, dev.id, port)
    environment |= {name.upper(): url for name, url in urls.items()}
    await sim.stop()
    async with program("sandbox_bot", "run", directory=tmp_path, **environment) as running:

        async def named() -> bool:
            assert running.running, running.errors
            status, body = await get(f"http://127.0.0.1:{port}", "/readyz")
            return status == 503 and "can't be reached" in json.loads(body)["missing"].get("gateway", "")

        await eventually(named)
        await eventually(lambda: "dependency=Discord" in running.errors)
        # It comes back in the middle of the login, and goes again.
        sim.fail_next("GET", r".*/gateway/bot", status=503)
        await sim.start()
        await until_ready(running, port)
        running.signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        assert "Traceback" not in running.errors
        assert "Unclosed" not in running.errors


async def test_run_against_named_servers_waits_for_the_one_that_is_away(
    sim: DiscordSim, urls: dict[str, str], servers: EmbeddedServers, tmp_path: Path
) -> None:
    dev, port = sim.add_guild("dev"), free_port()
    environment = discord_environment(sim, dev.id, port)
    environment |= {name.upper(): url for name, url in urls.items()} | {"LOG_FORMAT": "json"}
    await servers.nats.kill()
    async with program("sandbox_bot", "run", directory=tmp_path, **environment) as running:

        async def named() -> bool:
            assert running.running, running.errors
            status, body = await get(f"http://127.0.0.1:{port}", "/readyz")
            return status == 503 and "NATS" in json.loads(body)["missing"]

        await eventually(named)
        await eventually(lambda: "waiting_for_dependency" in running.errors)
        await servers.nats.start()
        await until_ready(running, port)
        running.signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        lines = [json.loads(line) for line in running.errors.splitlines()]
    waiting = [line for line in lines if line["event"] == "waiting_for_dependency"]
    assert {line["dependency"] for line in waiting} == {"NATS"}
    password = urlsplit(urls["database_url"]).password
    assert password
    for secret in (password, sim.token):
        assert secret not in running.errors + running.output


async def test_wrong_settings_are_one_line_each(tmp_path: Path) -> None:
    wrong = {
        "DISCORD_TOKEN": "s3cr3t-token",
        "DISCORD_DEV_GUILD_IDS": "12, abc",
        "DATABASE_URL": "mysql://root:s3cr3t@localhost/x",
        "NATS_URL": "nats://localhost",
        "OPS_PORT": "http",
        "SANDBOX_DEFAULT_TTL_HOURS": "-1",
    }
    async with program("sandbox_bot", "run", directory=tmp_path, **wrong) as running:
        assert await running.exit_code() == 2
    lines = running.errors.splitlines()
    named = [line.split()[0] for line in lines]
    assert sorted(named) == [
        "DATABASE_URL",
        "DISCORD_DEV_GUILD_IDS",
        "OPS_PORT",
        "REDIS_URL",
        "SANDBOX_DEFAULT_TTL_HOURS",
    ]
    assert all("it takes" in line for line in lines)
    assert "s3cr3t" not in running.errors
    assert running.output == ""


async def test_embedded_without_a_token_starts_no_server(tmp_path: Path) -> None:
    async with program("sandbox_bot", "run", "--embedded", directory=tmp_path) as running:
        assert await running.exit_code() == 2
    assert [line.split()[0] for line in running.errors.splitlines()] == [
        "DISCORD_TOKEN",
        "DISCORD_DEV_GUILD_IDS",
    ]
    assert list(tmp_path.iterdir()) == []


async def test_a_taken_ops_port_is_a_sentence(sim: DiscordSim, urls: dict[str, str], tmp_path: Path) -> None:
    environment = discord_environment(sim, sim.add_guild("dev").id, sim.port)
    environment |= {name.upper(): url for name, url in urls.items()}
    async with program("sandbox_bot", "run", directory=tmp_path, **environment) as running:
        assert await running.exit_code() == 2
    assert "OPS_PORT" in running.errors
    assert "Traceback" not in running.errors


async def test_a_refused_token_is_a_sentence(sim: DiscordSim, urls: dict[str, str], tmp_path: Path) -> None:
    environment = discord_environment(sim, sim.add_guild("dev").id, free_port())
    environment |= {name.upper(): url for name, url in urls.items()} | {"DISCORD_TOKEN": "n0t-this-one"}
    async with program("sandbox_bot", "run", directory=tmp_path, **environment) as running:
        assert await running.exit_code() == 2
    assert "DISCORD_TOKEN" in running.errors.splitlines()[-1]
    assert "Traceback" not in running.errors
    assert "n0t-this-one" not in running.errors


async def test_migrate_twice_and_down(empty_database_url: str, tmp_path: Path) -> None:
    for _ in range(2):
        async with program(
            "sandbox_bot", "migrate", directory=tmp_path, DATABASE_URL=empty_database_url
        ) as running:
            assert await running.exit_code() == 0, running.errors
        assert running.output == "The database is up to date.\n"
    connection = await asyncpg.connect(empty_database_url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    assert {"sandboxes", "sandbox_guild_mapping", "sandbox_audit_log"} <= {row["tablename"] for row in tables}
    async with program(
        "sandbox_bot", "migrate", "--down", directory=tmp_path, DATABASE_URL=empty_database_url
    ) as running:
        assert await running.exit_code() == 0, running.errors


async def test_migrating_a_database_that_is_away_is_a_sentence(
    empty_database_url: str, tmp_path: Path
) -> None:
    url = urlsplit(empty_database_url)
    away = urlunsplit(url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{free_port()}"))
    async with program("sandbox_bot", "migrate", directory=tmp_path, DATABASE_URL=away) as running:
        assert await running.exit_code() == 3
    assert "Traceback" not in running.errors
    assert running.errors
    assert str(url.password) not in running.errors
    async with program("sandbox_bot", "migrate", directory=tmp_path) as running:
        assert await running.exit_code() == 2
    assert running.errors.startswith("DATABASE_URL is not set")


async def test_the_tour_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    hostile = {"SANDBOX_MAX_PER_OWNER": "0", "DISCORD_SHARD_COUNT": "many", "LOG_LEVEL": "DEBUG"}
    async with program("sandbox_bot", "tour", directory=tmp_path, TMPDIR=str(tmp_path), **hostile) as running:
        await eventually(lambda: "register-guild" in running.output or not running.running)
        running.look_at_family()
        assert await running.exit_code() == 0, running.output + running.errors
    assert len(running.family) >= 6
    assert "2,000" in running.output
    assert "1,800" in running.output
    assert "Sandbox try-login is destroyed" in running.output
    assert "\x1b" not in running.output, "plain when piped"
    assert running.errors == ""
    assert list(tmp_path.iterdir()) == []


async def test_an_interrupted_tour_leaves_nothing(tmp_path: Path) -> None:
    async with program("sandbox_bot", "tour", directory=tmp_path, TMPDIR=str(tmp_path)) as running:
        await eventually(lambda: "running and migrated" in running.output)
        running.look_at_family()
        running.signal(signal.SIGINT)
        assert await running.exit_code() == 130
    assert "Stopped at step" in running.output
    assert "Traceback" not in running.errors
    assert list(tmp_path.iterdir()) == []


async def test_a_tour_that_fails_says_so_and_names_the_log(tmp_path: Path) -> None:
    async with program("sandbox_bot", "tour", directory=tmp_path, TMPDIR=str(tmp_path)) as running:
        await eventually(lambda: "2 The bot" in running.output or not running.running)
        running.look_at_family()
        for pid in running.family:
            if told_of(pid, "comm").strip() == "valkey-server":
                os.kill(pid, signal.SIGKILL)
        assert await running.exit_code() == 1
    assert "✗ Step" in running.output
    assert "Traceback" not in running.output + running.errors
    (log,) = tmp_path.glob("sandbox-tour-*.log")
    assert str(log) in running.output
