"""A simulator per test, discord.py pointed at it, and clients that stop when the test does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aiohttp
import discord
import pytest
import yarl

from discord_sim import DiscordSim, SimGuild, SimUser
from tests.sim.raw_client import RawClient

StartBot = Callable[[discord.Client], Awaitable[None]]
ConnectRaw = Callable[..., Awaitable[RawClient]]


class ManualClock:
    """A clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def clock() -> ManualClock:
    """Time under the test's control."""
    return ManualClock()


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    """A running simulator that records what it sends."""
    async with DiscordSim(record=True) as running:
        yield running


@pytest.fixture
def alice(sim: DiscordSim) -> SimUser:
    """Owner of the guild."""
    return sim.add_user("alice")


@pytest.fixture
def guild(sim: DiscordSim, alice: SimUser) -> SimGuild:
    """A guild with the bot in it."""
    return sim.add_guild("Dev", owner=alice)


@pytest.fixture
async def connect(sim: DiscordSim) -> AsyncIterator[ConnectRaw]:
    """Opens bare WebSocket clients, for what libraries never do."""
    async with aiohttp.ClientSession() as http:
        clients: list[RawClient] = []

        async def open_client(target: DiscordSim = sim, **options: object) -> RawClient:
            client = await RawClient.open(http, target, **options)  # type: ignore[arg-type]
            clients.append(client)
            return client

        yield open_client
        for client in clients:
            await client.close(4000)


@pytest.fixture
def use_sim() -> Iterator[Callable[[DiscordSim], None]]:
    """Points discord.py at a simulator, and back at Discord afterwards."""
    base = discord.http.Route.BASE
    gateway = discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY

    def use(sim: DiscordSim) -> None:
        discord.http.Route.BASE = sim.api_url
        discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(sim.gateway_url)

    yield use
    discord.http.Route.BASE = base
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = gateway


@pytest.fixture
async def start(sim: DiscordSim, use_sim: Callable[[DiscordSim], None]) -> AsyncIterator[StartBot]:
    """Starts discord.py clients and waits until they are ready."""
    use_sim(sim)
    running: list[tuple[discord.Client, asyncio.Task[None]]] = []

    async def start_client(client: discord.Client) -> None:
        task = asyncio.create_task(client.start(sim.token))
        running.append((client, task))
        ready = asyncio.create_task(_ready(client))
        done, _ = await asyncio.wait({task, ready}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        if ready not in done:
            ready.cancel()
            pytest.fail(f"the client did not become ready: {task}")

    yield start_client
    for client, task in running:
        await client.close()
        await task


async def _ready(client: discord.Client) -> None:
    # wait_until_ready raises instead of waiting until the login is done.
    while not client.is_ready():
        await asyncio.sleep(0.01)
