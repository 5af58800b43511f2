"""`sandbox_cogs.gateway` in a plain bot: it routes events, the bot's listeners go on, and no trace stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import discord
import nats
import pytest
from backports import zstd
from discord import utils
from discord.ext import commands

from discord_sim import DiscordSim
from sandbox_core.bootstrap import Core
from tests.streams import messages_of

from .host import register, until


@asynccontextmanager
async def running(bot: commands.Bot, *, load_first: bool) -> AsyncIterator[Core]:
    """The bot, connected, with the extension loaded before it connects or after."""
    async with bot:
        await bot.login("sim-token")
        if load_first:
            await bot.load_extension("sandbox_cogs.gateway")
        connection = asyncio.create_task(bot.connect())
        try:
            async with asyncio.timeout(60):
                await bot.wait_until_ready()
            if not load_first:
                await bot.load_extension("sandbox_cogs.gateway")
            yield bot.sandbox_core  # type: ignore[attr-defined]
            await bot.unload_extension("sandbox_cogs.gateway")
        finally:
            await bot.close()
            await asyncio.gather(connection, return_exceptions=True)


async def messages(nats_url: str, stream: str) -> list[Any]:
    client = await nats.connect(nats_url)
    try:
        js = client.jetstream()
        found = await messages_of(js, stream)
    finally:
        await client.close()
    return [message for message in found if message.headers["Discord-Event"] == "MESSAGE_CREATE"]


class _Zstd:
    """discord.py's context where it finds zstd, as on Python 3.14."""

    COMPRESSION_TYPE = "zstd-stream"

    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor()

    def decompress(self, data: bytes, /) -> str | None:
        return self._stream.decompress(data).decode()


@pytest.fixture(params=["zlib-stream", "zstd-stream"])
def compression(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the host's discord.py asks for: that is its own affair."""
    if request.param == "zstd-stream":
        monkeypatch.setattr(utils, "_ActiveDecompressionContext", _Zstd)
    elif request.param != utils._ActiveDecompressionContext.COMPRESSION_TYPE:
        pytest.skip("this discord.py has found zstd")
    return str(request.param)


@pytest.mark.parametrize("load_first", [True, False], ids=["before connecting", "while connected"])
@pytest.mark.parametrize("kind", [commands.Bot, commands.AutoShardedBot])
async def test_events_are_routed_and_the_host_goes_on(
    sim: DiscordSim,
    environment: None,
    nats_url: str,
    kind: type[commands.Bot],
    load_first: bool,
    compression: str,
) -> None:
    sharded = kind is commands.AutoShardedBot
    # Guild ids choose the shard: one guild on each.
    guilds = [sim.add_guild(f"G{n}", id=((10**12 + n) << 22) | n) for n in range(2 if sharded else 1)]
    sim_shards = [(guild.id >> 22) % 2 for guild in guilds]
    assert sorted(set(sim_shards)) == ([0, 1] if sharded else [0])
    heard: list[str] = []
    bot = kind(
        command_prefix="!",
        intents=discord.Intents.all(),
        help_command=None,
        guild_ready_timeout=0.2,
        **({"shard_count": 2} if sharded else {}),
    )

    async def identify_at_once(shard_id: int | None, *, initial: bool = False) -> None:
        """discord.py's own hook waits five seconds between shards."""

    bot.before_identify_hook = identify_at_once  # type: ignore[method-assign]

    @bot.listen()
    async def on_message(message: discord.Message) -> None:
        heard.append(message.content)

    async with running(bot, load_first=load_first) as core:
        await until(lambda: core.routes.current_table is not None)
        await register(core, guilds[0])
        for number in range(20):
            for guild in guilds:
                sim.message(guild, content=f"{guild.name} {number}")
        last = sim.add_user("last")
        await sim.dm(last, "that was all", count=0)
        # The first guild's events are its sandbox's, and the host gets nothing of them.
        await until(lambda: "that was all" in heard)
        await until(lambda: len(heard) == 20 * (len(guilds) - 1) + 1)
        async with asyncio.timeout(60):
            await core.router.idle()
    assert set(sim.rules.asked) == {compression}
    sandboxed = await messages(nats_url, "SANDBOX")
    production = await messages(nats_url, "EVENTS")
    sent = {frame.raw for frame in sim.sent if frame.type == "MESSAGE_CREATE"}
    production, direct = (
        [m for m in production if ("Discord-Guild-Id" in m.headers) is in_guild] for in_guild in (True, False)
    )
    assert len(direct) == 1
    sent -= {direct[0].data}
    assert {message.data for message in sandboxed + production} == sent
    assert [m.headers["Discord-Guild-Id"] for m in sandboxed] == [str(guilds[0].id)] * 20
    assert len(production) == 20 * (len(guilds) - 1)
    assert {m.headers["Discord-Shard"] for m in sandboxed + production} == {
        str(shard) for shard in sim_shards
    }


async def test_a_frame_nested_however_deep_is_routed_and_the_hosts_connection_stands(
    sim: DiscordSim, environment: None, nats_url: str
) -> None:
    guilds = [sim.add_guild(f"G{n}", id=((10**12 + n) << 22)) for n in range(2)]
    bot = commands.Bot(
        command_prefix="!", intents=discord.Intents.all(), help_command=None, guild_ready_timeout=0.2
    )
    heard: list[str] = []

    @bot.listen()
    async def on_message(message: discord.Message) -> None:
        heard.append(message.content)

    before = utils._from_json
    async with running(bot, load_first=True) as core:
        await until(lambda: core.routes.current_table is not None)
        await register(core, guilds[0])
        for levels in (1_000, 100_000):
            deep = b"[" * levels + b"]" * levels
            for guild in guilds:
                sim.emit_raw(b'{"guild_id":"%d","x":%b}' % (guild.id, deep), "ODD_EVENT", guild.id)
        sim.message(guilds[1], content="behind them")
        await until(lambda: heard == ["behind them"])
        async with asyncio.timeout(60):
            await core.router.idle()
    assert utils._from_json is before
    assert not sim.resumes
    sent = {frame.raw for frame in sim.sent if frame.type == "ODD_EVENT"}
    client = await nats.connect(nats_url)
    js = client.jetstream()
    stored = [message.data for stream in ("SANDBOX", "EVENTS") for message in await messages_of(js, stream)]
    await client.close()
    assert sent <= set(stored)
    assert len(sent) == 4


async def test_unloading_leaves_the_bot_as_it_was(sim: DiscordSim, environment: None) -> None:
    guild = sim.add_guild("G")
    bot = commands.Bot(
        command_prefix="!", intents=discord.Intents.all(), help_command=None, guild_ready_timeout=0.2
    )
    heard: list[str] = []

    @bot.listen()
    async def on_message(message: discord.Message) -> None:
        heard.append(message.content)

    tasks_before = {task.get_name() for task in asyncio.all_tasks()}
    async with running(bot, load_first=True):
        pass
    assert bot._enable_debug_events is False
    assert not bot.cogs
    assert not hasattr(bot, "sandbox_core")
    assert "on_socket_raw_receive" not in bot.extra_events
    left = {task.get_name() for task in asyncio.all_tasks()} - tasks_before
    assert not {name for name in left if "route" in name or "nats" in name or "sandbox" in name}

    again = commands.Bot(
        command_prefix="!", intents=discord.Intents.all(), help_command=None, guild_ready_timeout=0.2
    )
    again.add_listener(on_message)
    async with running(again, load_first=False):
        await again.reload_extension("sandbox_cogs.gateway")
        core: Core = again.sandbox_core  # type: ignore[attr-defined]
        sim.message(guild, content="after the reload")
        await until(lambda: heard)
        async with asyncio.timeout(60):
            await core.router.idle()
        ledger = core.intake.ledger(0)
        assert ledger is not None
        assert ledger.lag == 0
