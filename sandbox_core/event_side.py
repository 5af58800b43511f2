"""Puts together what decides where events go: routes, the router, and what it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

from nats.js import JetStreamContext
from redis.asyncio import Redis

from . import tasks
from .attribution import ChannelGuilds, ChannelLookup, ChannelSharing
from .event_router import BudgetLimits, EventRouter, LastEvents
from .metrics import Metrics
from .nats.connection import NatsConnection
from .nats.message_ids import MessageIds
from .nats.route_announcements import RouteAnnouncements
from .nats.stream_guilds import StreamGuilds
from .postgres.pool import Pool
from .postgres.routes import RouteRows
from .postgres.switches import SwitchRequests
from .redis.last_events import LastEventRecord
from .redis.route_cache import RouteCache
from .redis.shared_channels import SharedChannels
from .route_provider import RouteFollower, RouteProvider
from .settings import Settings


def routes_of(
    settings: Settings,
    metrics: Metrics,
    pool: Pool,
    redis: Redis,
    *,
    follower: RouteFollower | None,
    announcements: RouteAnnouncements,
) -> RouteProvider:
    """Return what knows which guild's events go where; `follower` where changes are followed."""

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


def router_of(
    settings: Settings, metrics: Metrics, routes: RouteProvider, redis: Redis
) -> tuple[EventRouter, ChannelLookup]:
    """Return what decides about each event, and what finds the guild of a channel for it."""
    channels = ChannelLookup(SharedChannels(redis), ChannelGuilds(), metrics.routing)
    router = EventRouter(
        routes,
        metrics.routing,
        max_pending=settings.router_max_pending,
        sandbox_limits=BudgetLimits.of(settings),
        lookup=channels,
        names=settings.stream_names,
    )
    routes.attach(router.switching)
    return router, channels


def share_channels(
    redis: Redis, channels: ChannelLookup, routes: RouteProvider
) -> Callable[[], Awaitable[None]]:
    """Begin to tell other processes the guilds of channels and interactions; the result ends it."""
    sharing = ChannelSharing(SharedChannels(redis), channels.guilds, lambda: routes.current_table)
    return in_background(sharing.run(), "channel-sharing")


def in_background(work: Coroutine[Any, Any, None], name: str) -> Callable[[], Awaitable[None]]:
    """Begin to do `work`; the result ends it."""
    return partial(tasks.end, asyncio.create_task(work, name=name))


def last_events_of(
    settings: Settings,
    router: EventRouter,
    redis: Redis,
    nats: NatsConnection,
    js: JetStreamContext,
    *,
    looks: bool,
) -> LastEvents:
    """Return the times of guilds' last events in production; `looks` where the stream is asked, too."""
    names = settings.stream_names
    stream = StreamGuilds(MessageIds(nats.client, js), js, names.events, names.events_subjects)
    return LastEvents(router.activity, LastEventRecord(redis), stream if looks else None)
