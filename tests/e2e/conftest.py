"""The standalone bot against the simulator, on real servers, in the session's loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import discord
import pytest

from discord_sim import DiscordSim
from sandbox_bot.gateway import GatewayTuning
from sandbox_core.settings import Settings
from tests.e2e.harness import BotRun, Live, settings_for

StartBot = Callable[..., Awaitable[BotRun]]
StartLive = Callable[..., Awaitable[Live]]


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    """A running simulator that keeps every frame it sends."""
    async with DiscordSim(record=True, replay_limit=20_000) as running:
        yield running


@pytest.fixture
def urls(database_url: str, redis_url: str, nats_url: str) -> dict[str, str]:
    """The test's own database, key space and streams, as settings."""
    return {"database_url": database_url, "redis_url": redis_url, "nats_url": nats_url}


@pytest.fixture
def discord_untouched() -> Iterator[None]:
    """Points discord.py back at Discord afterwards."""
    base = discord.http.Route.BASE
    gateway = discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY
    yield
    discord.http.Route.BASE = base
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = gateway


@pytest.fixture
async def start_bot(discord_untouched: None) -> AsyncIterator[StartBot]:
    """Starts bots, waits until they are ready unless told otherwise, and stops them after the test."""
    runs: list[BotRun] = []

    async def start(settings: Settings, *, ready: bool = True, tuning: GatewayTuning | None = None) -> BotRun:
        run = BotRun(settings, tuning)
        runs.append(run)
        if ready:
            await run.ready()
        return run

    yield start
    for run in runs:
        if not run.ended:
            await run.stop()


@pytest.fixture
async def start_live(sim: DiscordSim, urls: dict[str, str], start_bot: StartBot) -> StartLive:
    """Starts the bot in a world of one dev guild and nine others that Alice owns."""

    async def start(*, ready: bool = True, tuning: GatewayTuning | None = None, **overrides: object) -> Live:
        alice = sim.add_user("alice")
        guilds = [sim.add_guild(name, owner=alice) for name in ("dev", *(f"guild-{n}" for n in range(9)))]
        settings = settings_for(sim, guilds[0], urls, **overrides)
        run = await start_bot(settings, ready=ready, tuning=tuning)
        return Live(sim, run, alice, guilds)

    return start


@pytest.fixture
async def live(start_live: StartLive) -> Live:
    """The bot, ready."""
    return await start_live()
