"""A guard behind real HTTP, in front of a recorder or a simulator, with sandboxes that a test makes up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from redis.asyncio import Redis
from yarl import URL

from sandbox_core.models import RestLevel
from sandbox_core.redis.client import create_client
from sandbox_gateway.calls import Calls, recording
from sandbox_gateway.commands import CommandCall, Commands
from sandbox_gateway.guard.answers import json_response
from sandbox_gateway.guard.metrics import GuardMetrics
from sandbox_gateway.guard.places import Places
from sandbox_gateway.guard.seen import RedisSeen
from sandbox_gateway.guard.service import Guard
from sandbox_gateway.metrics import UpstreamMetrics
from sandbox_gateway.share import Share, ShareLimits
from sandbox_gateway.tenants import TablesStale, Tenant
from sandbox_gateway.upstream import Upstream

REAL_TOKEN = "real.bot.token-that-nobody-sees"
APPLICATION, BOT = "300000000000000001", "300000000000000002"
G1, G2, FOREIGN = "100000000000000001", "100000000000000050", "199999999999999999"
"""Two guilds of the sandbox, and one that is not."""
C1, C2, C_FOREIGN, C_DM, C_GONE = (
    *("110000000000000001", "110000000000000002", "119999999999999999"),
    *("118888888888888888", "117777777777777777"),
)
W1, W_FOREIGN = "120000000000000001", "129999999999999999"
INSIDE_TOKEN, FOREIGN_TOKEN = "inside-webhook-token", "foreign-webhook-token"
INVITE, INVITE_FOREIGN = "inside1", "foreign1"
PLENTY = ShareLimits(all_sandboxes=100_000, each=100_000, invalid_each=100_000, invalid_all=100_000)


def tenant(name: str = "mine", *guild_ids: str, level: RestLevel = RestLevel.FULL) -> Tenant:
    """Return a sandbox that runs for an hour."""
    return Tenant(
        sandbox_id=uuid4(),
        name=name,
        owner="200000000000000001",
        credentials=1,
        level=level,
        guild_ids=frozenset(guild_ids or (G1, G2)),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )


@dataclass
class ToldTenants:
    """The sandboxes that a test names, by their tokens."""

    known: dict[str, Tenant] = field(default_factory=dict)
    stale: bool = False

    async def by_token(self, token: str) -> Tenant | None:
        if self.stale:
            raise TablesStale
        return self.known.get(token)

    def current(self, sandbox_id: UUID) -> Tenant | None:
        return next((each for each in self.known.values() if each.sandbox_id == sandbox_id), None)

    def by_guild(self, guild_id: str) -> Tenant | None:
        return next((each for each in self.known.values() if guild_id in each.guild_ids), None)

    def change(self, token: str, **changes: Any) -> Tenant:
        """Replace a sandbox by one with other facts."""
        self.known[token] = replace(self.known[token], **changes)
        return self.known[token]


@dataclass
class NotedCommands:
    """Notes the calls about commands, and answers that it did."""

    calls: list[CommandCall] = field(default_factory=list)

    async def handle(self, tenant: Tenant, call: CommandCall) -> web.StreamResponse:
        self.calls.append(call)
        return json_response(200, {"noted": call.operation})

    async def to_client(self, tenant: Tenant, frame: bytes) -> bytes:
        return frame


@dataclass
class Reply:
    """What a client got."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Rig:
    """A running guard, and a client of it."""

    port: int
    http: aiohttp.ClientSession
    tenants: ToldTenants
    seen: RedisSeen
    places: Places
    commands: NotedCommands
    calls: Calls
    upstream: Upstream
    share: Share
    redis: Redis
    registry: CollectorRegistry
    token: str = "mine"

    @property
    def mine(self) -> Tenant:
        """The sandbox whose token the client has."""
        return self.tenants.known[self.token]

    async def ask(
        self, method: str, path: str, *, token: str | None = "", prefix: str = "/api/v10", **options: Any
    ) -> Reply:
        """Send a request whose path goes out as it is; `token` None sends none."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers.setdefault("Authorization", f"Bot {token or self.token}")
        url = URL(f"http://127.0.0.1:{self.port}{prefix}{path}", encoded=True)
        async with self.http.request(method, url, headers=headers, allow_redirects=False, **options) as reply:
            return Reply(reply.status, reply.headers, await reply.read())

    async def raw(self, data: bytes) -> bytes:
        """Send bytes, and return what comes until the end of the connection, or nothing more for a while."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            found = bytearray()
            while chunk := await asyncio.wait_for(reader.read(65536), 0.5):
                found += chunk
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
        return bytes(found)


@asynccontextmanager
async def rig(
    base: str,
    redis_url: str,
    *,
    limits: ShareLimits = PLENTY,
    real_token: str = REAL_TOKEN,
    commands: Commands | None = None,
) -> AsyncIterator[Rig]:
    """Run a guard in front of the Discord at `base`."""
    async with AsyncExitStack() as stack:
        redis = create_client(redis_url)
        stack.push_async_callback(redis.aclose)
        jar = aiohttp.DummyCookieJar()
        outgoing = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        share = Share(redis, limits)
        registry = CollectorRegistry()
        upstream = Upstream(outgoing, base, SecretStr(real_token), share, UpstreamMetrics(registry))
        tenants, seen, places = ToldTenants({"mine": tenant()}), RedisSeen(redis), Places(upstream)
        noted = NotedCommands()
        calls = await stack.enter_async_context(recording(redis))
        guard = Guard(
            tenants=tenants,
            upstream=upstream,
            seen=seen,
            places=places,
            commands=commands or noted,
            calls=calls,
            metrics=GuardMetrics(registry),
            gateway_url=lambda: "ws://gateway.sandboxes",
        )
        application = web.Application()
        application.router.add_route("*", r"/{tail:[\s\S]*}", guard.serve)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        yield Rig(port, http, tenants, seen, places, noted, calls, upstream, share, redis, registry)
