"""The two publishers, production's and the sandboxes'.

Each has a stream, a gate and a queue of its own, and a server of its own where the settings name one. So
whatever hinders the sandboxes' stream or its server, production's events go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .clients import jetstream
from .event_router import EventRouter, ObservedPath, observers
from .nats.connection import NatsConnection
from .nats.message_ids import MessageIds
from .nats.patience import Patience
from .nats.publisher import AckPublisher
from .nats.stored import StoredEvents
from .nats.streams import StreamLimits, Streams
from .subjects import StreamNames
from .tracing import Tracing
from .words import counted


@dataclass(frozen=True, slots=True)
class Publishers:
    """Both of them, and what hinders each."""

    router: EventRouter
    production: AckPublisher
    streams: Streams
    """Production's."""
    sandboxes: AckPublisher
    sandbox_streams: Streams
    sandbox_connection: NatsConnection

    async def start(self) -> None:
        """Begin to publish, each as soon as its connection stands."""
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
        """Why sandboxes get no events, or lose some; "" when nothing is known to be wrong.

        Always "" in a process that publishes none.
        """
        if not self.sandboxes.started:
            return ""
        if not self.sandbox_connection.connected:
            return self.sandbox_connection.trouble.reason
        parts = [_lacking(self.sandbox_streams, self.sandboxes)]
        if losing := self.router.sandboxes.budgets.losing:
            parts.append(f"{counted(losing, 'sandbox loses', 'sandboxes lose')} events")
        said = "; ".join(filter(None, parts))
        return f"{said} (NATS at {self.sandbox_connection.server})" if said else ""


def _lacking(streams: Streams, publisher: AckPublisher) -> str:
    if streams.obstacle is not None:
        return streams.obstacle.reason
    if not streams.ready:
        return f"the stream {streams.name} is not there yet"
    return publisher.refused


def open_publishers(
    nats: NatsConnection,
    sandbox_nats: NatsConnection,
    limits: StreamLimits,
    router: EventRouter,
    *,
    tracing: Tracing | None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Publishers:
    """Make both for this router, `sandbox_nats` may be the same connection; `start` begins.

    `monotonic` is the clock in seconds.
    """
    names, observing = limits.names, observers(tracing)
    streams = Streams(jetstream(nats), limits, server=lambda: nats.server, only=names.events)
    sandbox_streams = Streams(
        jetstream(sandbox_nats), limits, server=lambda: sandbox_nats.server, only=names.sandbox
    )
    paths = (ObservedPath(router, observing), ObservedPath(router, observing)) if observing else None
    events, sandbox_events = paths or (router, router)
    production = AckPublisher(
        nats, streams, events, stored=_stored(nats, names, names.events), names=names, monotonic=monotonic
    )
    sandboxes = AckPublisher(
        sandbox_nats,
        sandbox_streams,
        sandbox_events,
        stored=_stored(sandbox_nats, names, names.sandbox),
        names=names,
        monotonic=monotonic,
        trust=production.trust,
        beside=production if sandbox_nats is nats else None,
        patience=Patience(
            lambda: production.takes,
            router.sandboxes.hinders,
            router.sandboxes.came,
            answers=production.answers,
        ),
    )
    if paths is None:
        router.attach(production, sandboxes)
    else:
        router.attach(paths[0].to(production), paths[1].to(sandboxes))
    return Publishers(router, production, streams, sandboxes, sandbox_streams, sandbox_nats)


def _stored(nats: NatsConnection, names: StreamNames, stream: str) -> StoredEvents:
    # What was on its way to a stream can be in that one only.
    return StoredEvents(MessageIds(nats.client, jetstream(nats)), names=names, only=stream)
