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
from .namespaces.nats_places import SlotPlaces
from .namespaces.nats_reading import SlotReads
from .nats.connection import NatsConnection
from .nats.divided import DividedPublisher
from .nats.message_ids import MessageIds
from .nats.patience import Patience
from .nats.publication import Publisher
from .nats.publisher import AckPublisher
from .nats.stored import StoredEvents
from .nats.streams import StreamLimits, Streams
from .subjects import StreamNames
from .tenant_nats import TenantNats
from .tracing import Tracing
from .words import counted


@dataclass(frozen=True, slots=True)
class Others:
    """Publishes for sandboxes that share a stream, beside those that have accounts."""

    divided: DividedPublisher
    shared: AckPublisher
    streams: Streams


@dataclass(frozen=True, slots=True)
class Publishers:
    """Both of them, and what hinders each."""

    router: EventRouter
    production: AckPublisher
    streams: Streams
    """Production's."""
    sandboxes: AckPublisher
    sandbox_streams: Streams | SlotPlaces
    sandbox_connection: NatsConnection
    others: Others | None = None
    """Publishes for sandboxes without an account of their own, where there are accounts."""

    async def start(self) -> None:
        """Begin to publish, each as soon as its connection stands."""
        await self.production.start()
        await self.sandboxes.start()

    async def close(self) -> None:
        """Stop publishing."""
        if self.others is not None:
            await self.others.divided.close()
            if self.others.shared.started:
                await self.others.shared.close()
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
        if self.others is not None and self.others.shared.started:
            parts.append(_lacking(self.others.streams, self.others.shared))
        if losing := self.router.sandboxes.budgets.losing:
            parts.append(f"{counted(losing, 'sandbox loses', 'sandboxes lose')} events")
        said = "; ".join(filter(None, parts))
        return f"{said} (NATS at {self.sandbox_connection.server})" if said else ""


def _lacking(streams: Streams | SlotPlaces, publisher: AckPublisher) -> str:
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
    tenant: TenantNats | None = None,
) -> Publishers:
    """Make both for this router, `sandbox_nats` may be the same connection; `start` begins.

    `monotonic` is the clock in seconds. With `tenant` the sandboxes have accounts on their server, and those
    without share a stream on production's.
    """
    names, observing = limits.names, observers(tracing)
    paths = (ObservedPath(router, observing), ObservedPath(router, observing)) if observing else None
    events, sandbox_events = paths or (router, router)
    streams = Streams(jetstream(nats), limits, server=lambda: nats.server, only=names.events)
    production = AckPublisher(
        nats, streams, events, stored=_stored(nats, names, names.events), names=names, monotonic=monotonic
    )

    def patience() -> Patience:
        sandboxes = router.sandboxes
        return Patience(
            lambda: production.takes, sandboxes.hinders, sandboxes.came, answers=production.answers
        )

    shared_nats = sandbox_nats if tenant is None else nats
    shared_streams = Streams(
        jetstream(shared_nats), limits, server=lambda: shared_nats.server, only=names.sandbox
    )
    shared = AckPublisher(
        shared_nats,
        shared_streams,
        sandbox_events,
        stored=_stored(shared_nats, names, names.sandbox),
        names=names,
        monotonic=monotonic,
        trust=production.trust,
        beside=production if shared_nats is nats else None,
        patience=patience(),
    )
    to_sandboxes: Publisher = shared
    made = Publishers(router, production, streams, shared, shared_streams, sandbox_nats)
    if tenant is not None:
        own = AckPublisher(
            tenant.bot,
            tenant.places,
            sandbox_events,
            stored=StoredEvents(SlotReads(tenant.pool, tenant.streams), names=names, only=names.sandbox),
            names=names,
            monotonic=monotonic,
            trust=production.trust,
            patience=patience(),
            places=tenant.places,
        )
        to_sandboxes = divided = DividedPublisher(tenant.places, own, shared)
        others = Others(divided, shared, shared_streams)
        made = Publishers(router, production, streams, own, tenant.places, tenant.bot, others)
    if paths is None:
        router.attach(production, to_sandboxes)
    else:
        router.attach(paths[0].to(production), paths[1].to(to_sandboxes))
    return made


def _stored(nats: NatsConnection, names: StreamNames, stream: str) -> StoredEvents:
    # What was on its way to a stream can be in that one only.
    return StoredEvents(MessageIds(nats.client, jetstream(nats)), names=names, only=stream)
