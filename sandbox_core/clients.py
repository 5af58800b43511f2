"""Creates the clients of the three servers, and closes them within a time limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from nats.js import JetStreamContext
from redis.asyncio import Redis

from .cleanup import AT_MOST
from .dependencies import SANDBOX_NATS, Question, sandbox_nats_question
from .errors import DependencyUnavailable
from .nats.connection import NatsConnection
from .nats.every_stream import EveryStream, Reads, StreamReads
from .nats.message_ids import MessageIds
from .nats.sandbox_streams import SandboxReads, SandboxStreams
from .nats.streams import StreamLimits
from .postgres import login
from .postgres.pool import CONNECT_TIMEOUT, Pool, create_pool
from .postgres.processes import GatewayProcess
from .redis.client import create_client
from .route_provider import RouteFollower
from .settings import Settings
from .shutdown import ShutdownBudget

_log = structlog.get_logger("sandbox.core")

APPLICATION = "discord-sandboxes"
"""The name of this client on the servers."""
CLOSE_EACH_WITHIN = 2.0
_JETSTREAM_TIMEOUT = 3.0
_SPARE_CONNECTIONS = 6
"""Connections for all other work while the most sandboxes are being removed."""

_TENANT_CONNECTIONS = AT_MOST + 2
"""Connections to the sandboxes' database; one for each removal."""

Waiting = Callable[[DependencyUnavailable], None]
"""Called for each failed attempt to reach a server at the start."""


def at_end(
    stack: AsyncExitStack, closing: ShutdownBudget, name: str, close: Callable[[], Awaitable[object]]
) -> None:
    """Call `close` at the end, within the remaining time."""
    stack.push_async_callback(closing.finish, name, close, at_most=CLOSE_EACH_WITHIN)


def route_follower(settings: Settings, process: GatewayProcess | None) -> RouteFollower:
    """Return what follows changes of routes, in a connection of its own."""

    async def connect() -> asyncpg.Connection[Any]:
        return await login.connect(
            settings.database,
            timeout=CONNECT_TIMEOUT,
            server_settings={
                "application_name": f"{APPLICATION}-routes",
                "search_path": settings.sandbox_control_schema,
            },
        )

    return RouteFollower(connect, process=process, where=settings.database.where)


async def open_clients(
    settings: Settings, stack: AsyncExitStack, closing: ShutdownBudget
) -> tuple[Pool, Redis, NatsConnection]:
    """Create clients of all three servers, without a request to any of them."""
    pool = await create_pool(
        settings.database,
        min_size=0,
        max_size=AT_MOST + _SPARE_CONNECTIONS,
        application_name=APPLICATION,
        search_path=settings.sandbox_control_schema,
    )
    stack.push_async_callback(_close_pool, pool, closing)
    redis = create_client(settings.redis, client_name=APPLICATION)
    at_end(stack, closing, "Redis", redis.aclose)
    return pool, redis, open_nats(stack, closing)


@dataclass(frozen=True, slots=True)
class NatsSides:
    """NATS for production and for the sandboxes: one connection, or two where settings name two servers."""

    settings: Settings
    nats: NatsConnection
    js: JetStreamContext
    sandbox_nats: NatsConnection
    """To the sandboxes' server."""
    sandbox_js: JetStreamContext
    streams_nats: NatsConnection
    """To the server of the streams of sandboxes without an account."""
    streams: SandboxStreams
    """Theirs."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        nats: NatsConnection,
        stack: AsyncExitStack,
        closing: ShutdownBudget,
        *,
        tenant: NatsConnection | None = None,
    ) -> NatsSides:
        """Create the sandboxes' client, if it is another, without a request.

        `tenant` is the bot's connection to a server with an account for each sandbox.
        """
        js = jetstream(nats)
        limits = StreamLimits.of(settings)
        if tenant is not None:
            streams = sandbox_streams(nats, limits)
            return cls(settings, nats, js, tenant, jetstream(tenant), nats, streams)
        apart = settings.sandbox_nats_url is not None
        sandbox_nats = open_nats(stack, closing) if apart else nats
        streams = sandbox_streams(sandbox_nats, limits)
        return cls(settings, nats, js, sandbox_nats, streams.js, sandbox_nats, streams)

    @property
    def apart(self) -> bool:
        """True with two servers."""
        return self.sandbox_nats is not self.nats

    async def connect_sandboxes(self) -> None:
        """Begin to connect to the sandboxes' server. Nothing of production waits for it."""
        if self.apart and self.settings.tenant_nats is None:
            with suppress(DependencyUnavailable):
                await self.sandbox_nats.connect(self.settings.sandbox_nats, name=APPLICATION)

    def questions(self) -> dict[str, Question]:
        """A real request for the sandboxes' server, if it is another."""
        if not self.apart:
            return {}
        return {SANDBOX_NATS: sandbox_nats_question(self.sandbox_js, self.sandbox_nats)}

    def reads(self, tenants: Reads | None = None) -> EveryStream:
        """Read everything back; `tenants` reads the streams of sandboxes with an account."""
        names = self.settings.stream_names
        message_ids = MessageIds(self.nats.client, self.js)
        production = StreamReads(message_ids, names.events, names.events_subjects)
        here = sandbox_reads(self.streams_nats, self.streams)
        if tenants is not None:
            return EveryStream([production, here], [tenants])
        return EveryStream([production], [here]) if self.apart else EveryStream([production, here])


def sandbox_streams(nats: NatsConnection, limits: StreamLimits) -> SandboxStreams:
    """The streams of sandboxes without an account, on this connection's server."""
    return SandboxStreams(jetstream(nats), limits, server=lambda: nats.server)


def sandbox_reads(nats: NatsConnection, streams: SandboxStreams) -> SandboxReads:
    """Reads them back, over the same connection."""
    return SandboxReads(MessageIds(nats.client, streams.js), streams)


def jetstream(nats: NatsConnection) -> JetStreamContext:
    """JetStream over this connection."""
    return nats.client.jetstream(timeout=_JETSTREAM_TIMEOUT)


def open_nats(stack: AsyncExitStack, closing: ShutdownBudget) -> NatsConnection:
    """Create a client of NATS, without a request."""
    nats = NatsConnection()
    stack.push_async_callback(_close_nats, nats, closing)
    return nats


async def open_tenant_clients(
    settings: Settings, stack: AsyncExitStack, closing: ShutdownBudget
) -> tuple[Pool | None, Redis | None]:
    """Create clients of the sandboxes' servers that the settings name, without a request to any."""
    pool, redis = None, None
    if settings.tenant_database is not None:
        pool = await create_pool(
            settings.tenant_database,
            min_size=0,
            max_size=_TENANT_CONNECTIONS,
            application_name=APPLICATION,
            # Nothing that a sandbox has made is found by a name without its schema.
            search_path="pg_catalog",
        )
        stack.push_async_callback(_close_pool, pool, closing)
    if settings.tenant_redis is not None:
        redis = create_client(settings.tenant_redis, client_name=APPLICATION)
        at_end(stack, closing, "Redis of sandboxes", redis.aclose)
    return pool, redis


async def connect_nats(nats: NatsConnection, settings: Settings, on_waiting: Waiting | None) -> None:
    """Wait until NATS answers. Without `on_waiting` the first failure raises `DependencyUnavailable`."""
    while True:
        try:
            await nats.connect(settings.nats, name=APPLICATION)
        except DependencyUnavailable as error:
            if on_waiting is None:
                raise
            on_waiting(error)
        else:
            return


async def _close_pool(pool: Pool, closing: ShutdownBudget) -> None:
    # A connection that waits for a dead server would delay the end of the process.
    if not await closing.finish("PostgreSQL", pool.close, at_most=CLOSE_EACH_WITHIN):
        _log.warning("postgres_pool_terminated")
        pool.terminate()


async def _close_nats(nats: NatsConnection, closing: ShutdownBudget) -> None:
    if not await closing.finish("NATS", nats.close, at_most=CLOSE_EACH_WITHIN):
        nats.abort()
