"""The gauges of the event path, each read where it is kept at the moment of a scrape."""

from __future__ import annotations

from collections.abc import Callable

from .event_router import EventRouter, GatewayIntake
from .metrics import Metrics
from .publishers import Publishers
from .route_provider import RouteProvider

_GAUGES = {
    "sandbox_gateway_inflight": "Frames taken and not yet acknowledged",
    "sandbox_gateway_ack_lag": "Frames received and not yet acknowledged, over all shards",
    "sandbox_events_held": "Frames whose side is not known yet",
    "sandbox_publishing": "1 while production's events are published; 0 while NATS or the stream is away",
    "sandbox_publishing_to_sandboxes": "The same of sandboxes' events, their NATS server and stream",
    "sandbox_guild_mappings": "Guilds in the in-process route table",
}


def prepare(metrics: Metrics) -> None:
    """Show them at 0, which is true until there is something to read.

    A start that waits for NATS is one in which nothing is published, and alerts compare with that.
    """
    for name, meaning in _GAUGES.items():
        metrics.live_gauge(name, meaning, lambda: 0.0)


def read(
    metrics: Metrics,
    intake: GatewayIntake,
    router: EventRouter,
    publishers: Publishers,
    routes: RouteProvider,
) -> None:
    """Read them from these from now on."""
    sources: dict[str, Callable[[], float]] = {
        "sandbox_gateway_inflight": lambda: router.pending,
        "sandbox_gateway_ack_lag": lambda: intake.lag,
        "sandbox_events_held": lambda: router.held,
        "sandbox_publishing": lambda: publishers.production.sending,
        "sandbox_publishing_to_sandboxes": lambda: publishers.sandboxes.sending,
        "sandbox_guild_mappings": lambda: int(routes.statistics()["guilds"]),
    }
    for name, meaning in _GAUGES.items():
        metrics.live_gauge(name, meaning, sources[name])
