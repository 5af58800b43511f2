"""Servers as `run --embedded` starts them, a local Discord, and the endpoint between them and clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import discord
import pytest

from discord_sim import DiscordSim
from sandbox_bot.embedded import EmbeddedServers
from tests.conftest import revive
from tests.isolation.conftest import closed, settings_of

from .stage import Process, Stage, staged

__all__ = ["closed"]


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    """A running simulator that keeps every frame it sends."""
    async with DiscordSim(record=True, replay_limit=20_000) as running:
        yield running


@pytest.fixture
async def stage(closed: EmbeddedServers, sim: DiscordSim) -> AsyncIterator[Stage]:
    """A bot that publishes what happens in five servers."""
    for server in (closed.postgres, closed.valkey, closed.tenant_valkey, closed.nats, closed.tenant_nats):
        await revive(server)
    guilds = [sim.add_guild(f"guild-{number}") for number in range(5)]
    settings = settings_of(
        closed, discord_token=sim.token, discord_api_url=sim.api_url, sandbox_max_per_owner=50
    )
    async with staged(settings, sim, guilds) as made:
        yield made


@pytest.fixture
async def process(stage: Stage) -> Process:
    """One process of the endpoint."""
    return await stage.start()


@pytest.fixture
def discord_untouched() -> Iterator[None]:
    """Points discord.py back at Discord afterwards."""
    base = discord.http.Route.BASE
    gateway = discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY
    yield
    discord.http.Route.BASE = base
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = gateway
