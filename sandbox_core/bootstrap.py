"""Opens the core. No other module chooses implementations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import Any

import asyncpg
import structlog
from nats.js import JetStreamContext
from redis.asyncio import Redis

from . import clients, live_gauges, system_health, tasks
from .attribution import ChannelGuilds, ChannelLookup, ChannelSharing
from .cleanup import CleanupMetrics, CleanupProvider, Notices
from .clients import APPLICATION, CLOSE_EACH_WITHIN, Waiting, connect_nats, open_clients
from .dependencies import questions
from .errors import DependencyUnavailable
from .event_router import EventRouter, GatewayIntake, LastEvents, ObservedPath, observers
from .health import HealthChecker
from .manager import LoggedManager, ManagerLimits, SandboxManager
from .metrics import Metrics
from .namespaces import Namespace, NatsNamespace
from .nats.connection import NatsConnection
from .nats.dead_letters import DeadLetters
from .nats.message_ids import MessageIds
from .nats.publisher import AckPublisher
from .nats.route_announcements import RouteAnnouncements
from .nats.stored import StoredEvents
from .nats.stream_guilds import StreamGuilds
from .nats.streams import StreamLimits, Streams
from .postgres import login
from .postgres.pool import CONNECT_TIMEOUT, Pool
from .postgres.processes import GatewayProcess, Processes
from .postgres.routes import RouteRows
from .postgres.switches import SwitchRequests
from .redis.last_events import LastEventRecord
from .redis.route_cache import RouteCache
from .redis.shared_channels import SharedChannels
from .route_provider import RouteFollower, RouteProvider
from .settings import Settings
from .sharding.registered import PublisherNotices
from .sharding.resume_point_keys import GatewaySessions
from .sharding.resume_point_rows import ResumePointRows
from .sharding.resume_points import ResumePoints
from .sharding.state import PublishingState
from .shutdown import ShutdownBudget
from .tenant_side import TenantSide, open_tenant_side
from .tracing import Tracing, find_tracing

_log = structlog.get_logger("sandbox.core")

_JETSTREAM_TIMEOUT = 3.0
_CLOSE_WITHIN = 10.0
# A dead process's shards must be resumed within 15 s of its end; six of them wait for its leases.
_STORED_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Core:
    """Everything that Discord's commands and the command line use; `open_core` opens and closes it."""

    settings: Settings
    manager: SandboxManager
    namespaces: tuple[Namespace, ...]
    """The sandboxes' parts, in the order of provisioning."""
    tenants: TenantSide
    """The sandboxes' own servers."""
    cleanup: CleanupProvider
    notices: Notices
    health: HealthChecker
    routes: RouteProvider
    router: EventRouter
    intake: GatewayIntake
    last_events: LastEvents
    """The times of guilds' last events in production."""
    channels: ChannelLookup
    """Finds the guild of a channel; set its `directory`, which asks Discord."""
    publisher: AckPublisher
    streams: Streams
    metrics: Metrics
    pool: Pool
    redis: Redis
    nats: NatsConnection
    js: JetStreamContext
    tracing: Tracing | None
    """Traces; None unless OpenTelemetry is installed and set up."""
    process: GatewayProcess
    """This process's identity among those that publish events."""
    processes: Processes
    resume_points: ResumePoints
    """The points where gateway sessions can be resumed."""
    stored_events: StoredEvents
    dead_letters: DeadLetters
    """The events that sandboxes' workers could not handle."""
    message_ids: MessageIds
    """Reads the streams back."""
    publishing: PublishingState
    """The shards that other processes publish instead of this one."""
    publisher_notices: PublisherNotices


class NatsUse(Enum):
    """How a core uses NATS."""

    EVENTS = "events"
    """To publish: NATS must answer once, and missing streams are created."""
    SANDBOXES = "sandboxes"
    """Only for the sandboxes' parts: NATS may be away, and nothing can be published."""
    NOTHING = "nothing"
    """Not at all: methods that need NATS must not be called."""


@asynccontextmanager
async def open_core(
    settings: Settings,
    *,
    follow_routes: bool = True,
    use_nats: NatsUse = NatsUse.EVENTS,
    on_waiting: Waiting | None = None,
    on_servers: Callable[[HealthChecker], None] | None = None,
    metrics: Metrics | None = None,
    closing: ShutdownBudget | None = None,
) -> AsyncIterator[Core]:
    """Open the core and close it at the end.

    PostgreSQL and Redis may be away: methods that need them raise when they are called. If `use_nats` needs
    an answer of NATS, the start waits and calls `on_waiting` for each failed attempt; without `on_waiting` it
    raises `DependencyUnavailable`. `follow_routes=False` is for short-lived callers such as the command line,
    which look routes up in Redis and PostgreSQL.

    `on_servers` gets a checker of all servers before the start waits for one. `metrics` is for a caller that
    shows metrics before the core is open. `closing` is the time limit of the caller's whole shutdown, which
    includes the core's.
    """
    async with AsyncExitStack() as stack:
        metrics, closing = metrics or Metrics(), closing or ShutdownBudget(_CLOSE_WITHIN)
        stack.push_async_callback(closing.over)

        live_gauges.prepare(metrics)
        at_end = partial(clients.at_end, stack, closing)
        pool, redis, nats = await open_clients(settings, stack, closing)
        js = nats.client.jetstream(timeout=_JETSTREAM_TIMEOUT)
        asked = questions(pool, redis, js, nats)
        if on_servers is not None:
            servers = system_health.checker_at_start(settings, asked, nats)
            at_end("health", servers.close)
            on_servers(servers)
        if use_nats is NatsUse.EVENTS:
            await connect_nats(nats, settings, on_waiting)
        elif use_nats is NatsUse.SANDBOXES:
            with suppress(DependencyUnavailable):
                await nats.connect(settings.nats, name=APPLICATION)

        process, processes = GatewayProcess.this(), Processes(pool)
        # A change of routes waits only for processes that publish.
        announced = process if follow_routes and use_nats is NatsUse.EVENTS else None
        if announced is not None:
            stack.push_async_callback(_leave, processes, announced, closing)
        announcements = RouteAnnouncements(nats, settings.stream_names.route_announcements_subject)
        routes = _routes(
            settings,
            metrics,
            pool,
            redis,
            follower=_follower(settings, announced) if follow_routes else None,
            announcements=announcements,
        )
        at_end("routes", routes.close)
        router, channels = _router(settings, metrics, routes, redis)
        if announced is not None:
            at_end("channel sharing", _share_channels(redis, channels, routes))
            await announcements.hear(routes.heard)
        routes.start()

        streams = Streams(js, StreamLimits.of(settings), server=lambda: nats.server)
        tracing = find_tracing()
        message_ids = MessageIds(nats.client, js)
        publisher = _publisher(
            nats, streams, router, StoredEvents(message_ids, names=settings.stream_names), tracing
        )
        if use_nats is NatsUse.EVENTS:
            await publisher.start()
            at_end("publisher", publisher.close)
        last_events = _last_events(settings, router, redis, nats, js, looks=use_nats is NatsUse.EVENTS)
        at_end("router", router.close)

        side = await open_tenant_side(settings, stack, closing, pool=pool, redis=redis)
        namespaces: tuple[Namespace, ...] = (
            side.schemas,
            side.redis_part,
            NatsNamespace(js, stream=settings.stream_names.sandbox),
        )
        health = system_health.checker(
            settings,
            namespaces,
            asked,
            routes,
            pool,
            publishes=(streams, publisher) if use_nats is NatsUse.EVENTS else None,
            follows_routes=follow_routes,
            tenants=side.checks,
        )
        at_end("health", health.close)
        manager = LoggedManager(
            pool=pool,
            namespaces=namespaces,
            routes=routes,
            limits=ManagerLimits(
                default_ttl=settings.default_ttl,
                max_ttl=settings.max_ttl,
                max_per_owner=settings.sandbox_max_per_owner,
                max_guilds=settings.sandbox_max_guilds,
                protected_guild_ids=frozenset(settings.discord_protected_guild_ids),
            ),
            observer=metrics,
            health=health,
            key=settings.credentials_key,
            enforced=settings.enforced,
        )
        cleanup = CleanupProvider(
            pool=pool,
            namespaces=namespaces,
            keys=side.every_keys,
            routes=routes,
            observer=CleanupMetrics(metrics.registry, owner_labels=settings.metrics_owner_labels),
            destruction_observer=metrics,
        )
        if announced is not None:
            at_end("last events", _run(last_events.run(), "last-events"))
        live_gauges.read(metrics, intake := GatewayIntake(router), router, publisher, routes)
        yield Core(
            settings=settings,
            manager=manager,
            namespaces=namespaces,
            tenants=side,
            cleanup=cleanup,
            notices=Notices(pool, leads=settings.expiry_notices),
            health=health,
            routes=routes,
            router=router,
            intake=intake,
            last_events=last_events,
            channels=channels,
            publisher=publisher,
            streams=streams,
            metrics=metrics,
            pool=pool,
            redis=redis,
            nats=nats,
            js=js,
            tracing=tracing,
            process=process,
            processes=processes,
            resume_points=ResumePoints(GatewaySessions(redis), ResumePointRows(pool)),
            stored_events=StoredEvents(message_ids, names=settings.stream_names, within=_STORED_WITHIN),
            dead_letters=DeadLetters(js, settings.stream_names.sandbox),
            message_ids=message_ids,
            publishing=PublishingState(),
            publisher_notices=PublisherNotices(pool),
        )


def _routes(
    settings: Settings,
    metrics: Metrics,
    pool: Pool,
    redis: Redis,
    *,
    follower: RouteFollower | None,
    announcements: RouteAnnouncements,
) -> RouteProvider:
    def database_now() -> float | None:
        return None if follower is None else follower.database_now()

    ttl = timedelta(milliseconds=settings.sandbox_route_cache_ttl_ms)
    return RouteProvider(
        RouteRows(pool),
        RouteCache(redis, ttl, database_now=database_now),
        metrics.routing,
        follower=follower,
        processes=SwitchRequests(pool),
        announcements=announcements,
    )


def _router(
    settings: Settings, metrics: Metrics, routes: RouteProvider, redis: Redis
) -> tuple[EventRouter, ChannelLookup]:
    channels = ChannelLookup(SharedChannels(redis), ChannelGuilds(), metrics.routing)
    router = EventRouter(
        routes,
        metrics.routing,
        max_pending=settings.router_max_pending,
        lookup=channels,
        names=settings.stream_names,
    )
    routes.attach(router)
    return router, channels


def _share_channels(
    redis: Redis, channels: ChannelLookup, routes: RouteProvider
) -> Callable[[], Awaitable[None]]:
    """Begin to tell other processes the guilds of channels and interactions; the result ends it."""
    sharing = ChannelSharing(SharedChannels(redis), channels.guilds, lambda: routes.current_table)
    return _run(sharing.run(), "channel-sharing")


def _run(work: Coroutine[Any, Any, None], name: str) -> Callable[[], Awaitable[None]]:
    """Begin to do `work`; the result ends it."""
    return partial(tasks.end, asyncio.create_task(work, name=name))


def _last_events(
    settings: Settings,
    router: EventRouter,
    redis: Redis,
    nats: NatsConnection,
    js: JetStreamContext,
    *,
    looks: bool,
) -> LastEvents:
    names = settings.stream_names
    stream = StreamGuilds(MessageIds(nats.client, js), js, names.events, names.events_subjects)
    return LastEvents(router.activity, LastEventRecord(redis), stream if looks else None)


async def _leave(processes: Processes, process: GatewayProcess, closing: ShutdownBudget) -> None:
    with suppress(DependencyUnavailable):
        if await closing.step("leave", partial(processes.leave, process), at_most=CLOSE_EACH_WITHIN):
            return
    # Other processes wait for this one until it counts as gone.
    _log.info("process_not_removed", process=process.name)


def _follower(settings: Settings, process: GatewayProcess | None) -> RouteFollower:
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


def _publisher(
    nats: NatsConnection,
    streams: Streams,
    router: EventRouter,
    stored: StoredEvents,
    tracing: Tracing | None,
) -> AckPublisher:
    observing = observers(tracing)
    if not observing:
        publisher = AckPublisher(nats, streams, router, stored=stored, names=streams.limits.names)
        router.attach(publisher)
        return publisher
    path = ObservedPath(router, observing)
    publisher = AckPublisher(nats, streams, path, stored=stored, names=streams.limits.names)
    router.attach(path.to(publisher))
    return publisher
