"""Sets up the tour: servers, a local Discord with guilds, and the running bot."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import asyncpg
import nats
from nats.aio.client import Client
from redis.asyncio import Redis

from discord_sim import DiscordSim, SimGuild, SimUser
from discord_sim.control import ControlApi
from sandbox_core.addresses import NatsAddress, PostgresAddress, RedisAddress
from sandbox_core.ops import OpsServer
from sandbox_core.postgres import login
from sandbox_core.redis.client import create_client
from sandbox_core.settings import Settings, load_settings

from ..client import SandboxBot
from ..embedded import EmbeddedServers, embedded_servers
from ..logs import configure_logging
from ..migrate import migrate
from ..runner import run_bot

_START_WITHIN = 30.0

_GUILDS = (
    "Bot workshop",
    "Login test server",
    "Harbour Chess Club",
    "Night Trains",
    "Pixel Foundry",
    "Rust Evenings",
    "Sourdough Circle",
    "Trail Runners",
    "Vinyl Exchange",
    "Weather Watchers",
)


@dataclass(frozen=True, slots=True)
class World:
    """The local Discord: a developer, the guild for her commands, the guild for her tests, and all guilds."""

    sim: DiscordSim
    developer: SimUser
    dev_guild: SimGuild
    test_guild: SimGuild
    guilds: list[SimGuild]


@dataclass(frozen=True, slots=True)
class Stores:
    """The tour's own connections to the servers: it never asks the bot."""

    postgres: asyncpg.Connection[asyncpg.Record]
    tenants: asyncpg.Connection[asyncpg.Record]
    """The sandboxes' database."""
    redis: Redis
    """The sandboxes'."""
    nats: Client
    """Production's."""


@asynccontextmanager
async def servers_with_schema(data_dir: Path) -> AsyncIterator[EmbeddedServers]:
    """Run PostgreSQL with the migrations applied, Valkey and nats-server; they end with the body."""
    async with embedded_servers(data_dir, fast=True) as servers:
        await migrate(servers.database_url)
        yield servers


@asynccontextmanager
async def connected_stores(servers: EmbeddedServers) -> AsyncIterator[Stores]:
    """Open the tour's own connections to the servers."""
    async with AsyncExitStack() as stack:
        postgres = await login.connect(PostgresAddress.parse(servers.database_url))
        stack.push_async_callback(postgres.close)
        tenants = await login.connect(PostgresAddress.parse(servers.postgres.tenants_url))
        stack.push_async_callback(tenants.close)
        redis = await stack.enter_async_context(create_client(servers.tenant_valkey.url, client_name="tour"))
        client = await nats.connect(**NatsAddress.parse(servers.nats_url).arguments())
        stack.push_async_callback(client.close)
        yield Stores(postgres, tenants, redis, client)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Run a simulator that keeps every frame it sends."""
    async with DiscordSim(record=True) as sim:
        sim.control = ControlApi(sim).serve
        developer = sim.add_user("alice")
        guilds = [sim.add_guild(name, owner=developer) for name in _GUILDS]
        yield World(sim, developer, guilds[0], guilds[1], guilds)


def tour_settings(servers: EmbeddedServers, place: World) -> Settings:
    """Return the bot's settings for these servers and this Discord."""
    return default_settings(
        database_url=servers.database_url,
        redis_url=servers.redis_url,
        nats_url=servers.nats_url,
        **servers.tenant_settings,
        discord_token=place.sim.token,
        discord_api_url=place.sim.api_url,
        discord_dev_guild_ids=str(place.dev_guild.id),
        ops_port=0,
        sandbox_gateway_port=_free_port(),
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def default_settings(**ours: object) -> Settings:
    """Return default settings with the values of `ours`; the environment and `.env` do not count."""
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in Settings.model_fields.items()
        if not field.is_required()
    }
    return load_settings(**{**defaults, **ours})


@asynccontextmanager
async def running_bot(settings: Settings, log: TextIO) -> AsyncIterator[tuple[SandboxBot, OpsServer]]:
    """Run the bot as `sandboxctl run` does and wait until it is ready; its log lines go to `log`.

    Raises what the bot's own run raises, and `TimeoutError` when it is not ready in time.
    """
    configure_logging(settings, log)
    stop = asyncio.Event()
    started: asyncio.Future[tuple[SandboxBot, OpsServer]] = asyncio.get_running_loop().create_future()

    async def on_started(bot: SandboxBot, ops: OpsServer) -> None:
        started.set_result((bot, ops))

    running = asyncio.create_task(run_bot(settings, stop=stop, on_started=on_started), name="the bot")
    either: set[asyncio.Future[Any]] = {running, started}
    try:
        async with asyncio.timeout(_START_WITHIN):
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield started.result()
    finally:
        stop.set()
        await running


async def describe(servers: EmbeddedServers, stores: Stores) -> list[tuple[str, str, str]]:
    """Ask each server for its version; return name, version and address of each, and the sandboxes' port."""
    postgres = await stores.postgres.fetchval("SHOW server_version")
    valkey = (await stores.redis.info("server")).get("valkey_version", "")
    nats_version = stores.nats.connected_server_version
    host = "127.0.0.1"
    return [
        ("PostgreSQL", str(postgres), f"{host}:{servers.postgres.port}"),
        (
            "Valkey",
            str(valkey),
            f"{host}:{servers.valkey.port} and {servers.tenant_valkey.port}",
        ),
        (
            "nats-server",
            f"{nats_version.major}.{nats_version.minor}.{nats_version.patch}",
            f"{host}:{servers.nats.port} and {servers.tenant_nats.port}",
        ),
    ]


def addresses(
    servers: EmbeddedServers, place: World, ops: OpsServer, shell: Path, log: Path
) -> list[tuple[str, str]]:
    """Return the addresses and commands for looking around while everything is up; without passwords."""
    database = PostgresAddress.parse(servers.database_url)
    without_password = f"postgresql://{database.who}@{database.where}/{database.database}"
    redis = RedisAddress.parse(servers.redis_url)
    control = f"http://127.0.0.1:{place.sim.port}/_sim"
    body = json.dumps({"user": place.developer.name, "guild": place.dev_guild.name, "path": "sandbox list"})
    return [
        ("ops endpoint", f"{ops.url}/readyz  /healthz  /metrics"),
        ("DATABASE_URL", f"{without_password}  (its password is in the next line's file)"),
        ("in a shell", f". {shell}"),
        ("REDIS_URL", f"redis://{redis.who}@{redis.where}/{redis.database}  (likewise)"),
        ("NATS_URL", servers.nats_url),
        ("run a bot", f"sandboxctl exec NAME -- python {shell.with_name('mybot.py')}  (in such a shell)"),
        ("Discord API", place.sim.api_url),
        ("be a person", f"curl -s {control}/slash -d '{body}'"),
        ("send events", f"curl -s {control}/flood -d '{{\"count\": 100}}'"),
        ("the bot's log", str(log)),
    ]
