"""Somebody else's bot on the simulator: this project is only an extension in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import discord
import pytest

from discord_sim import DiscordSim, SimGuild, SimUser


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    async with DiscordSim(record=True, shards=2) as running:
        yield running


@pytest.fixture(autouse=True)
def discord_is_the_simulator(sim: DiscordSim) -> Iterator[None]:
    import yarl

    base, gateway = discord.http.Route.BASE, discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY
    discord.http.Route.BASE = sim.api_url
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(sim.gateway_url)
    yield
    discord.http.Route.BASE, discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = base, gateway


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, nats_url: str
) -> pytest.MonkeyPatch:
    """The settings an extension finds, in the environment and nowhere else."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("NATS_URL", nats_url)
    return monkeypatch


@pytest.fixture
def alice(sim: DiscordSim) -> SimUser:
    return sim.add_user("alice")


@pytest.fixture
def guilds(sim: DiscordSim, alice: SimUser) -> tuple[SimGuild, SimGuild]:
    """One that is registered later, and one that never is."""
    return sim.add_guild("Sandboxed", owner=alice), sim.add_guild("Production", owner=alice)
