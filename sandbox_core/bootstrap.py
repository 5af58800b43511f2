"""Opens the core. No other module chooses implementations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from uuid import UUID

import structlog
from nats.js import JetStreamContext
from redis.asyncio import Redis

from . import clients, live_gauges, system_health
from .attribution import ChannelLookup
from .cleanup import CleanupMetrics, CleanupProvider, Notices
from .clients import APPLICATION, CLOSE_EACH_WITHIN, NatsSides, Waiting, connect_nats, open_clients
from .dependencies import questions
from .errors import DependencyUnavailable
from .event_router import EventRouter, GatewayIntake, LastEvents
from .event_side import in_background, last_events_of, router_of, routes_of, share_channels
from .health import HealthChecker
from .hindrance import hindrance, log_hindrance
from .manager import LoggedManager, ManagerLimits, SandboxManager
from .measuring import Measuring, StorageMetrics
from .metrics import Metrics
from .namespaces import Namespace
from .namespaces.backlogs import Backlogs
from .namespaces.nats_letters import SandboxDeadLetters
from .namespaces.nats_reading import SlotReads
from .namespaces.nats_writing import SandboxWriting
from .namespaces.stream_places import StreamPlaces
from .nats.connection import NatsConnection
from .nats.every_stream import EveryStream
from .nats.publisher import AckPublisher
from .nats.route_announcements import RouteAnnouncements
from .nats.stored import StoredEvents
from .nats.streams import StreamLimits, Streams
from .postgres import sandboxes
from .postgres.pool import Pool, connected
from .postgres.processes import GatewayProcess, Processes
from .production_consumers import ConsumerMetrics, ProductionConsumers
from .publishers import Publishers, open_publishers
from .route_provider import RouteProvider
from .settings import Settings
from .sharding.registered import PublisherNotices
from .sharding.resume_point_keys import GatewaySessions
from .sharding.resume_point_rows import ResumePointRows
from .sharding.resume_points import ResumePoints
from .sharding.state import PublishingState
from .shutdown import ShutdownBudget
from .stored import StorageLimit
from .templates import Templates
from .tenant_side import TenantSide, connect_tenant_nats, open_tenant_side, storage_limits
from .tracing import Tracing, find_tracing
from .workbench.recordings.opening import RecordingSide, open_recordings

_log = structlog.get_logger("sandbox.core")

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
    measuring: Measuring
    """Measures what sandboxes store."""
    consumers: ProductionConsumers
    """Measures how far production's consumers are behind."""
    health: HealthChecker
    routes: RouteProvider
    router: EventRouter
    intake: GatewayIntake
    last_events: LastEvents
    """The times of guilds' last events in production."""
    channels: ChannelLookup
    """Finds the guild of a channel; set its `directory`, which asks Discord."""
    publishers: Publishers
    publisher: AckPublisher
    """Production's."""
    streams: Streams
    """Production's."""
    metrics: Metrics
    pool: Pool
    redis: Redis
    nats: NatsConnection
    js: JetStreamContext
    sandbox_nats: NatsConnection
    """To the server of the sandboxes' stream, which may be another one."""
    sandbox_js: JetStreamContext
    tracing: Tracing | None
    """Traces; None unless OpenTelemetry is installed and set up."""
    process: GatewayProcess
    """This process's identity among those that publish events."""
    processes: Processes
    resume_points: ResumePoints
    """The points where gateway sessions can be resumed."""
    stored_events: StoredEvents
    dead_letters: SandboxDeadLetters
    """The events that sandboxes' workers could not handle."""
    writing: SandboxWriting
    """Puts events into sandboxes' streams."""
    places: StreamPlaces
    """Where the events of sandboxes, and of production, are."""
    recordings: RecordingSide
    message_ids: EveryStream
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
    TRIAL = "trial"
    """As `SANDBOXES`, and sandboxes' workers are let in, also while no other process does that."""
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
        tenant_nats = await connect_tenant_nats(
            settings,
            stack,
            closing,
            pool,
            answers=use_nats in {NatsUse.EVENTS, NatsUse.TRIAL},
            connects=use_nats is not NatsUse.NOTHING,
        )
        sides = NatsSides.of(
            settings, nats, stack, closing, tenant=None if tenant_nats is None else tenant_nats.bot
        )
        asked = questions(pool, redis, sides.js, nats) | sides.questions()
        if on_servers is not None:
            servers = system_health.checker_at_start(settings, asked, nats)
            at_end("health", servers.close)
            on_servers(servers)
        await _connect(sides, use_nats, on_waiting)

        process, processes = GatewayProcess.this(), Processes(pool)
        # A change of routes waits only for processes that publish.
        announced = process if follow_routes and use_nats is NatsUse.EVENTS else None
        if announced is not None:
            stack.push_async_callback(_leave, processes, announced, closing)
        announcements = RouteAnnouncements(nats, settings.stream_names.route_announcements_subject)
        routes = routes_of(
            settings,
            metrics,
            pool,
            redis,
            follower=clients.route_follower(settings, announced) if follow_routes else None,
            announcements=announcements,
        )
        at_end("routes", routes.close)
        router, channels = router_of(settings, metrics, routes, redis)
        if announced is not None:
            at_end("channel sharing", share_channels(redis, channels, routes))
            await announcements.hear(routes.heard)
        routes.start()

        tracing = find_tracing()
        message_ids = sides.reads(None if tenant_nats is None else SlotReads(pool, tenant_nats.streams))
        publishers = open_publishers(
            nats,
            sides.streams_nats,
            StreamLimits.of(settings),
            router,
            living=partial(_without_account, pool),
            tracing=tracing,
            tenant=tenant_nats,
        )
        if use_nats is NatsUse.EVENTS:
            log_hindrance(settings)
            await publishers.start()
            at_end("publisher", publishers.close)
            at_end("sandbox budgets", in_background(router.sandboxes.budgets.run(), "sandbox-budgets"))
        last_events = last_events_of(
            settings, router, redis, nats, sides.js, looks=use_nats is NatsUse.EVENTS
        )
        at_end("router", router.close)

        side = await open_tenant_side(
            settings, stack, closing, pool=pool, redis=redis, sides=sides, tenant=tenant_nats
        )
        namespaces: tuple[Namespace, ...] = (side.schemas, side.redis_part, side.nats_part)
        places = _places(settings, pool, sides)
        health = system_health.checker(
            settings,
            namespaces,
            asked,
            routes,
            pool,
            hindrance=publishers.production_lacks if use_nats is NatsUse.EVENTS else None,
            follows_routes=follow_routes,
            tenants=side.checks,
            backlog=Backlogs(places, side.traces.sessions if settings.client_endpoint else None).of,
        )
        at_end("health", health.close)
        limits = storage_limits(settings)
        manager = LoggedManager(
            pool=pool,
            namespaces=namespaces,
            routes=routes,
            limits=_manager_limits(settings, limits),
            observer=metrics,
            health=health,
            key=settings.credentials_key,
            endpoint=settings.client_endpoint,
            enforced=settings.enforced,
            hindrance=partial(hindrance, settings),
            templates=(templates := Templates.of(settings)),
        )
        recordings = open_recordings(settings, pool, manager, nats, places=places, process=str(process.id))
        cleanup = CleanupProvider(
            pool=pool,
            namespaces=namespaces,
            keys=side.every_keys,
            routes=routes,
            observer=CleanupMetrics(metrics.registry, owner_labels=settings.metrics_owner_labels),
            destruction_observer=metrics,
            templates=templates,
            recordings=recordings.library,
        )
        if announced is not None:
            at_end("last events", in_background(last_events.run(), "last-events"))
        live_gauges.read(metrics, intake := GatewayIntake(router), router, publishers, routes)
        yield Core(
            settings=settings,
            manager=manager,
            namespaces=namespaces,
            tenants=side,
            cleanup=cleanup,
            notices=Notices(pool, leads=settings.expiry_notices, limits=limits),
            measuring=Measuring(
                pool=pool, namespaces=namespaces, limits=limits, metrics=StorageMetrics(metrics.registry)
            ),
            consumers=ProductionConsumers(sides.js, settings.stream_names, ConsumerMetrics(metrics.registry)),
            health=health,
            routes=routes,
            router=router,
            intake=intake,
            last_events=last_events,
            channels=channels,
            publishers=publishers,
            publisher=publishers.production,
            streams=publishers.streams,
            metrics=metrics,
            pool=pool,
            redis=redis,
            nats=nats,
            js=sides.js,
            sandbox_nats=sides.sandbox_nats,
            sandbox_js=sides.sandbox_js,
            tracing=tracing,
            process=process,
            processes=processes,
            resume_points=ResumePoints(GatewaySessions(redis), ResumePointRows(pool)),
            stored_events=StoredEvents(message_ids, within=_STORED_WITHIN),
            dead_letters=side.dead_letters,
            writing=side.writing,
            places=places,
            recordings=recordings,
            message_ids=message_ids,
            publishing=PublishingState(),
            publisher_notices=PublisherNotices(pool),
        )


def _manager_limits(settings: Settings, storage: Mapping[str, StorageLimit]) -> ManagerLimits:
    return ManagerLimits(
        default_ttl=settings.default_ttl,
        max_ttl=settings.max_ttl,
        max_per_owner=settings.sandbox_max_per_owner,
        max_guilds=settings.sandbox_max_guilds,
        storage=storage,
        protected_guild_ids=frozenset(settings.discord_protected_guild_ids),
    )


def _places(settings: Settings, pool: Pool, sides: NatsSides) -> StreamPlaces:
    tenant = None if settings.tenant_nats is None else sides.sandbox_nats
    # Sandboxes by convention: beside production's, unless a server of theirs has no accounts.
    shared = sides.sandbox_nats if tenant is None else sides.nats
    return StreamPlaces(pool, tenant, shared, sides.nats, settings.stream_names)


async def _connect(sides: NatsSides, use_nats: NatsUse, on_waiting: Waiting | None) -> None:
    if use_nats is NatsUse.NOTHING:
        return
    if use_nats is NatsUse.EVENTS:
        await connect_nats(sides.nats, sides.settings, on_waiting)
    else:
        with suppress(DependencyUnavailable):
            await sides.nats.connect(sides.settings.nats, name=APPLICATION)
    await sides.connect_sandboxes()


async def _without_account(pool: Pool) -> set[UUID]:
    async with connected(pool) as connection:
        return await sandboxes.without_credentials(connection, running=True)


async def _leave(processes: Processes, process: GatewayProcess, closing: ShutdownBudget) -> None:
    with suppress(DependencyUnavailable):
        if await closing.step("leave", partial(processes.leave, process), at_most=CLOSE_EACH_WITHIN):
            return
    # Other processes wait for this one until it counts as gone.
    _log.info("process_not_removed", process=process.name)
