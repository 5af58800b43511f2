"""A host that can't route is refused in a sentence; what it will not bring is said at load."""

from __future__ import annotations

import json
import socket
from typing import Any

import aiohttp
import discord
import pytest
from discord.ext import commands
from structlog.testing import capture_logs

from discord_sim import DiscordSim
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.ops import OpsAddressError

from .host import HostBot, connected, core_of, until

GATEWAY = "sandbox_cogs.gateway"


async def load(bot: Any) -> list[Any]:
    """Load the extension and unload it; what it logged."""
    with capture_logs() as logs:
        async with bot:
            await bot._async_setup_hook()
            await bot.load_extension(GATEWAY)
            await bot.unload_extension(GATEWAY)
    return logs


async def refused(bot: Any) -> str:
    with pytest.raises(commands.ExtensionFailed) as caught:
        await load(bot)
    assert type(caught.value.original).__name__ == "HostNotFit"
    assert not hasattr(bot, "sandbox_core")
    assert "dispatch" not in vars(bot)
    return str(caught.value.original)


def bot_with(**options: Any) -> commands.Bot:
    return commands.Bot("!", **{"intents": discord.Intents.all(), "help_command": None, **options})


def sharded_with(**options: Any) -> commands.AutoShardedBot:
    return commands.AutoShardedBot("!", intents=discord.Intents.all(), help_command=None, **options)


async def test_without_the_guilds_intent_it_is_refused(environment: None) -> None:
    intents = discord.Intents.all()
    intents.guilds = False
    text = await refused(bot_with(intents=intents))
    assert "`guilds`" in text
    assert "discord.Intents.default()" in text


async def test_each_missing_intent_is_a_line_that_names_its_events(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DISCORD_PRIVILEGED_INTENTS", "members,message_content")
    intents = discord.Intents.all()
    for name in ("message_content", "members", "presences", "invites", "dm_messages"):
        setattr(intents, name, False)
    logs = await load(bot_with(intents=intents))
    lines = {entry["intent"]: entry for entry in logs if entry["event"] == "intent_missing"}
    # Presences are not expected: the setting does not name them.
    assert lines.keys() == {"message_content", "members", "invites", "dm_messages"}
    assert {entry["log_level"] for entry in lines.values()} == {"warning"}
    assert "GUILD_MEMBER_ADD" in lines["members"]["not_seen"]
    assert "DISCORD_PRIVILEGED_INTENTS" in lines["members"]["hint"]
    assert lines["invites"]["not_seen"] == "INVITE_CREATE, INVITE_DELETE"
    assert "DISCORD_PRIVILEGED_INTENTS" not in lines["invites"]["hint"]


async def test_a_host_with_everything_gets_no_warning(environment: None) -> None:
    logs = await load(bot_with())
    assert [entry for entry in logs if entry["log_level"] in {"warning", "error"}] == []
    assert [entry for entry in logs if entry["event"] == "message_cache_off"] == []


async def test_every_intent_of_the_library_is_known() -> None:
    from sandbox_cogs.gateway import _fitness

    known = {"guilds", *_fitness._BRINGS, *_fitness._PRIVILEGED_BRING}
    known_bits = sum({getattr(discord.Intents, name).flag for name in known})
    assert known_bits == discord.Intents.all().value


async def test_a_message_cache_that_is_off_is_no_problem_and_said(environment: None) -> None:
    logs = await load(bot_with(max_messages=None))
    assert [entry["log_level"] for entry in logs if entry["event"] == "message_cache_off"] == ["info"]


@pytest.mark.parametrize(
    ("bot", "count", "ids", "named"),
    [
        (bot_with, "4", None, ("1 shard ", "DISCORD_SHARD_COUNT is 4")),
        (lambda: bot_with(shard_id=1, shard_count=2), "4", None, ("2 shards", "DISCORD_SHARD_COUNT is 4")),
        (lambda: sharded_with(shard_count=2), "4", None, ("2 shards", "DISCORD_SHARD_COUNT is 4")),
        (
            lambda: sharded_with(shard_count=4),
            "4",
            "0,1",
            ("shard 0, 1, 2, 3", "DISCORD_SHARD_IDS says 0, 1"),
        ),
        (lambda: sharded_with(shard_count=4, shard_ids=[2, 3]), "4", "0,1", ("shard 2, 3", "says 0, 1")),
    ],
)
async def test_shards_that_differ_from_the_settings_are_refused(
    environment: pytest.MonkeyPatch, bot: Any, count: str, ids: str | None, named: tuple[str, ...]
) -> None:
    environment.setenv("DISCORD_SHARD_COUNT", count)
    if ids is not None:
        environment.setenv("DISCORD_SHARD_IDS", ids)
    text = await refused(bot())
    assert all(part in text for part in named), text


@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_host_with_a_part_of_the_shards_is_warned_unless_the_settings_say_so(
    environment: pytest.MonkeyPatch, confirmed: bool
) -> None:
    if confirmed:
        environment.setenv("DISCORD_SHARD_COUNT", "4")
        environment.setenv("DISCORD_SHARD_IDS", "2,3")
    logs = await load(sharded_with(shard_count=4, shard_ids=[3, 2]))
    warned = [entry for entry in logs if entry["event"] == "shards_of_others"]
    assert [entry["shards"] for entry in warned] == ([] if confirmed else [[2, 3]])


async def test_shards_that_discord_decides_are_judged_when_they_are_known(
    sim: DiscordSim, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("DISCORD_SHARD_COUNT", "7")
    bot = sharded_with()

    async def identify_at_once(shard_id: int | None, *, initial: bool = False) -> None:
        """discord.py's own hook waits five seconds between shards."""

    bot.before_identify_hook = identify_at_once  # type: ignore[method-assign]
    with capture_logs() as logs:
        async with connected(bot, GATEWAY):
            await until(lambda: [e for e in logs if e["event"] == "shards_do_not_fit"])
    lines = [entry for entry in logs if entry["event"] == "shards_do_not_fit"]
    assert len(lines) == 1
    assert "2 shards and DISCORD_SHARD_COUNT is 7" in lines[0]["reason"]


# The ops endpoint


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def fetch(port: int, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status, await response.text()


async def test_no_port_is_opened_unless_it_is_set(sim: DiscordSim, environment: None) -> None:
    with capture_logs() as logs:
        async with connected(HostBot(), GATEWAY):
            pass
    assert [entry for entry in logs if entry["event"] == "ops_listening"] == []


async def test_the_endpoint_says_what_the_standalone_bots_says(
    sim: DiscordSim, environment: pytest.MonkeyPatch, servers: EmbeddedServers
) -> None:
    port = free_port()
    environment.setenv("OPS_PORT", str(port))
    sim.rules.heartbeat_interval_ms = 500
    bot = HostBot()
    sim.add_guild("G")
    async with connected(bot, GATEWAY):
        await until(lambda: core_of(bot).routes.current_table is not None)
        # Not by its class, of which each loading makes another.
        listener: Any = bot.get_cog("GatewayListener")
        # Its first turn with the leases: before, nobody can tell who publishes.
        await until(lambda: not listener.gateway_trouble)
        status, body = await fetch(port, "/readyz")
        answer = json.loads(body)
        assert (status, answer["status"]) == (200, "ready")
        assert set(answer["latencies_ms"]) - {"gateway"} == {"PostgreSQL", "Redis", "NATS"}
        assert await fetch(port, "/healthz") == (200, '{"status": "ok"}')
        sim.message(next(iter(sim.world.bot_guilds())), content="counted")
        await core_of(bot).router.idle()
        _, metrics = await fetch(port, "/metrics")
        assert 'sandbox_events_routed_total{destination="production"}' in metrics
        versions = json.loads((await fetch(port, "/version"))[1])
        assert versions["discord.py"] == discord.__version__
        await servers.valkey.stop()
        try:
            status, body = await fetch(port, "/readyz")
            assert (status, json.loads(body)["status"]) == (200, "degraded")
        finally:
            await servers.valkey.start()
        sim.refuse_resume_url(how="hang")
        await sim.drop()
        await until(lambda: not bot.ws.open)
        status, body = await fetch(port, "/readyz")
        assert status == 503
        assert "gateway" in json.loads(body)["missing"]
        sim.refuse_resume_url(False)
        await bot.unload_extension(GATEWAY)
        with pytest.raises(aiohttp.ClientConnectionError):
            await fetch(port, "/healthz")


async def test_a_port_that_is_taken_stops_the_loading_with_its_name(
    environment: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment.setenv("OPS_PORT", str(taken.getsockname()[1]))
        bot = bot_with()
        with pytest.raises(commands.ExtensionFailed) as caught:
            await load(bot)
    assert isinstance(caught.value.original, OpsAddressError)
    assert "OPS_PORT" in str(caught.value.original)
    assert not hasattr(bot, "sandbox_core")
