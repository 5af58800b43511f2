"""What the REST guard adds to a call of an unmodified bot, beside the same call to Discord without it.

One call after the other. The guard's own time is that of a whole call less that for which it waited for
Discord; the lookup of a channel, which is made once, is not among the calls.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from yarl import URL

from discord_sim import DiscordSim
from sandbox_bot.embedded import embedded_servers
from sandbox_core.models import RestLevel
from sandbox_core.redis.client import create_client
from sandbox_gateway.calls import recording
from sandbox_gateway.commands import NoCommands
from sandbox_gateway.guard.metrics import GuardMetrics
from sandbox_gateway.guard.places import Places
from sandbox_gateway.guard.seen import RedisSeen
from sandbox_gateway.guard.service import Guard
from sandbox_gateway.share import Share, ShareLimits
from sandbox_gateway.tenants import Tenant
from sandbox_gateway.upstream import Upstream

from .report import Section, Spread, percentile

_ROUNDS = 3
_PLENTY = ShareLimits(all_sandboxes=1_000_000, each=1_000_000)
_TOKEN = "of-the-sandbox"  # noqa: S105 (of nobody)


class _TimedUpstream(Upstream):
    """Adds up for how long Discord was waited for."""

    waited = 0.0

    async def _sent(self, *arguments: Any, **options: Any) -> aiohttp.ClientResponse:
        started = time.perf_counter()
        try:
            return await super()._sent(*arguments, **options)
        finally:
            self.waited += time.perf_counter() - started


@dataclass
class _OneTenant:
    tenant: Tenant
    stale: bool = False

    async def by_token(self, token: str) -> Tenant | None:
        return self.tenant if token == _TOKEN else None

    def current(self, sandbox_id: UUID) -> Tenant | None:
        return self.tenant

    def by_guild(self, guild_id: str) -> Tenant | None:
        return self.tenant


@dataclass
class _Stage:
    """A guard in front of a simulator."""

    http: aiohttp.ClientSession
    direct: str
    guarded: str
    sim_token: str
    channel_id: str
    guild_id: str
    own: list[float]
    """The guard's own time of each call, in milliseconds."""

    async def ask(self, base: str, token: str, method: str, path: str, body: object = None) -> None:
        headers = {"Authorization": f"Bot {token}"}
        url = URL(base + path, encoded=True)
        async with self.http.request(method, url, headers=headers, json=body) as answer:
            await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status}")


@asynccontextmanager
async def _stage() -> AsyncIterator[_Stage]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = await stack.enter_async_context(embedded_servers(directory, fast=True))
        sim = await stack.enter_async_context(DiscordSim())
        guild = sim.add_guild("Bench", owner=sim.add_user("owner"))
        channel = next(iter(guild.channels.values()))
        redis = create_client(servers.redis_url)
        stack.push_async_callback(redis.aclose)
        outgoing = await stack.enter_async_context(aiohttp.ClientSession())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        upstream = _TimedUpstream(outgoing, sim.api_url, SecretStr(sim.token), Share(redis, _PLENTY))
        ends = datetime.now(UTC) + timedelta(1)
        tenant = Tenant(uuid4(), "bench", "1", 1, RestLevel.FULL, frozenset({str(guild.id)}), ends)
        guard = Guard(
            tenants=_OneTenant(tenant),
            upstream=upstream,
            seen=RedisSeen(redis),
            places=Places(upstream),
            commands=NoCommands(),
            calls=await stack.enter_async_context(recording(redis)),
            metrics=GuardMetrics(CollectorRegistry()),
            gateway_url=lambda: "",
        )
        own: list[float] = []

        async def serve(request: web.Request) -> web.StreamResponse:
            started, before = time.perf_counter(), upstream.waited
            response = await guard.serve(request)
            own.append((time.perf_counter() - started - (upstream.waited - before)) * 1000)
            return response

        application = web.Application()
        application.router.add_route("*", r"/{tail:[\s\S]*}", serve)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        guarded = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v10"
        yield _Stage(http, sim.api_url, guarded, sim.token, str(channel.id), str(guild.id), own)


async def measure(section: Section) -> None:
    """p50 and p99 in milliseconds; the promise is p99 of the guard's own time below 3 ms."""
    number = section.size(1000, 50)
    rows: list[tuple[object, ...]] = []
    async with _stage() as stage:
        calls: Mapping[str, tuple[str, str, object]] = {
            "GET a server": ("GET", f"/guilds/{stage.guild_id}", None),
            "POST a message": ("POST", f"/channels/{stage.channel_id}/messages", {"content": "hello"}),
        }
        for name, call in calls.items():
            direct: list[list[float]] = []
            guarded: list[list[float]] = []
            own: list[list[float]] = []
            for _ in range(_ROUNDS):
                to_discord = partial(stage.ask, stage.direct, stage.sim_token, *call)
                direct.append(await _timed(number, to_discord))
                stage.own.clear()
                guarded.append(await _timed(number, partial(stage.ask, stage.guarded, _TOKEN, *call)))
                own.append(list(stage.own))
            rows += [
                (f"{name}, direct", *_percentiles(direct)),
                (f"{name}, through the guard", *_percentiles(guarded)),
                (f"{name}, the guard's own time", *_percentiles(own)),
            ]
    section.table(
        f"A bot's call to Discord, milliseconds: median (min-max) of {_ROUNDS} rounds of {number} calls",
        ("", "p50", "p99"),
        rows,
    )


async def _timed(number: int, call: Callable[[], Awaitable[None]]) -> list[float]:
    taken = []
    for _ in range(number):
        started = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def _percentiles(rounds: list[list[float]]) -> tuple[Spread, ...]:
    return tuple(Spread(tuple(percentile(values, share) for values in rounds)) for share in (0.5, 0.99))
