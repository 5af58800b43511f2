"""The two publishers, production's and the sandboxes', on one connection.

Each has a stream, a gate and a queue of its own. So whatever hinders the sandboxes' stream, production's
events go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from nats.js import JetStreamContext

from .event_router import EventRouter, ObservedPath, observers
from .nats.connection import NatsConnection
from .nats.patience import Patience
from .nats.publisher import AckPublisher
from .nats.stored import StoredEvents
from .nats.streams import StreamLimits, Streams
from .tracing import Tracing
from .words import counted


@dataclass(frozen=True, slots=True)
class Publishers:
    """Both of them, and what hinders each."""

    connection: NatsConnection
    router: EventRouter
    production: AckPublisher
    streams: Streams
    """Production's."""
    sandboxes: AckPublisher
    sandbox_streams: Streams

    async def start(self) -> None:
        """Begin to publish; the connection must stand."""
        await self.production.start()
        await self.sandboxes.start()

    async def close(self) -> None:
        """Stop publishing."""
        await self.sandboxes.close()
        await self.production.close()

    def production_lacks(self) -> str:
        """What hinders production's events on a server that answers; "" when nothing does."""
        return _lacking(self.streams, self.production)

    @property
    def sandboxes_trouble(self) -> str:
        """Why sandboxes get no events, or lose some; "" when nothing is known to be wrong."""
        parts = [_lacking(self.sandbox_streams, self.sandboxes)]
        if losing := self.router.sandboxes.budgets.losing:
            parts.append(f"{counted(losing, 'sandbox loses', 'sandboxes lose')} events")
        said = "; ".join(filter(None, parts))
        return f"{said} (NATS at {self.connection.server})" if said else ""


def _lacking(streams: Streams, publisher: AckPublisher) -> str:
    if streams.obstacle is not None:
        return streams.obstacle.reason
    if not streams.ready:
        return f"the stream {streams.name} is not there yet"
    return f"the stream {streams.name} refuses events: {publisher.refused}" if publisher.refused else ""


def open_publishers(
    nats: NatsConnection,
    js: JetStreamContext,
    limits: StreamLimits,
    router: EventRouter,
    *,
    stored: StoredEvents,
    tracing: Tracing | None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Publishers:
    """Make both for this router; `start` begins. `monotonic` is the clock in seconds."""
    names = limits.names
    streams, sandbox_streams = (
        Streams(js, limits, server=lambda: nats.server, only=name) for name in (names.events, names.sandbox)
    )
    observing = observers(tracing)
    paths = (ObservedPath(router, observing), ObservedPath(router, observing)) if observing else None
    events, sandbox_events = paths or (router, router)
    production = AckPublisher(nats, streams, events, stored=stored, names=names, monotonic=monotonic)
    sandboxes = AckPublisher(
        nats,
        sandbox_streams,
        sandbox_events,
        stored=stored,
        names=names,
        monotonic=monotonic,
        beside=production,
        patience=Patience(lambda: production.takes, router.sandboxes.hinders, router.sandboxes.came),
    )
    if paths is None:
        router.attach(production, sandboxes)
    else:
        router.attach(paths[0].to(production), paths[1].to(sandboxes))
    return Publishers(nats, router, production, streams, sandboxes, sandbox_streams)
