"""The two publishers, production's and the sandboxes'.

Each has streams, a gate and a queue of its own, and a server of its own where the settings name one. So
whatever hinders the sandboxes' streams or their server, production's events go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .clients import jetstream, sandbox_reads, sandbox_streams
from .event_router import EventRouter, ObservedPath, observers
from .namespaces.nats_places import SlotPlaces
from .namespaces.nats_reading import SlotReads
from .nats.connection import NatsConnection
from .nats.divided import DividedPublisher
from .nats.every_stream import StreamReads
from .nats.message_ids import MessageIds
from .nats.patience import ELECTION, SHORT, Patience
from .nats.publication import Publisher
from .nats.publisher import AckPublisher
from .nats.sandbox_streams import Living, LivingStreams
from .nats.stored import StoredEvents
from .nats.streams import StreamLimits, Streams
from .tenant_nats import TenantNats
from .tracing import Tracing
from .words import counted


@dataclass(frozen=True, slots=True)
class Others:
    """Publishes for sandboxes without an account, beside those that have one."""

    divided: DividedPublisher
    here: AckPublisher
    streams: LivingStreams


@dataclass(frozen=True, slots=True)
class Publishers:
    """Both of them, and what hinders each."""

    router: EventRouter
    production: AckPublisher
    streams: Streams
    """Production's."""
    sandboxes: AckPublisher
    sandbox_streams: LivingStreams | SlotPlaces
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
            if self.others.here.started:
                await self.others.here.close()
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
        if self.others is not None and self.others.here.started:
            parts.append(_lacking(self.others.streams, self.others.here))
        if losing := self.router.sandboxes.budgets.losing:
            parts.append(f"{counted(losing, 'sandbox loses', 'sandboxes lose')} events")
        said = "; ".join(filter(None, parts))
        return f"{said} (NATS at {self.sandbox_connection.server})" if said else ""


def _lacking(streams: Streams | LivingStreams | SlotPlaces, publisher: AckPublisher) -> str:
    if streams.obstacle is not None:
        return streams.obstacle.reason
    if not streams.ready:
        return f"the stream {streams.name} is not there yet"
    return publisher.refused


def open_publishers(
    nats: NatsConnection,
    streams_nats: NatsConnection,
    limits: StreamLimits,
    router: EventRouter,
    *,
    living: Living,
    tracing: Tracing | None,
    monotonic: Callable[[], float] = time.monotonic,
    tenant: TenantNats | None = None,
) -> Publishers:
    """Make both for this router, `streams_nats` may be the same connection; `start` begins.

    `streams_nats` is to the server of sandboxes without an account, and `living` tells which they are.
    `monotonic` is the clock in seconds. With `tenant` other sandboxes have accounts on their server.
    """
    names, observing = limits.names, observers(tracing)
    paths = (ObservedPath(router, observing), ObservedPath(router, observing)) if observing else None
    events, sandbox_events = paths or (router, router)
    streams = Streams(jetstream(nats), limits, server=lambda: nats.server)
    reads = StreamReads(MessageIds(nats.client, jetstream(nats)), names.events, names.events_subjects)
    # What was on its way to one side's streams can be in those only.
    production = AckPublisher(
        nats, streams, events, stored=StoredEvents(reads), names=names, monotonic=monotonic
    )

    def patience(short: float) -> Patience:
        sandboxes = router.sandboxes
        return Patience(
            lambda: production.takes,
            sandboxes.hinders,
            sandboxes.came,
            answers=production.answers,
            short=short,
        )

    own_streams = sandbox_streams(streams_nats, limits)
    living_streams = LivingStreams(own_streams, living, monotonic=monotonic)
    here = AckPublisher(
        streams_nats,
        living_streams,
        sandbox_events,
        stored=StoredEvents(sandbox_reads(streams_nats, own_streams)),
        names=names,
        monotonic=monotonic,
        trust=production.trust,
        beside=production if streams_nats is nats else None,
        patience=patience(SHORT if streams_nats is not nats else ELECTION),
    )
    to_sandboxes: Publisher = here
    made = Publishers(router, production, streams, here, living_streams, streams_nats)
    if tenant is not None:
        own = AckPublisher(
            tenant.bot,
            tenant.places,
            sandbox_events,
            stored=StoredEvents(SlotReads(tenant.pool, tenant.streams)),
            names=names,
            monotonic=monotonic,
            trust=production.trust,
            patience=patience(SHORT),
            places=tenant.places,
        )
        to_sandboxes = divided = DividedPublisher(tenant.places, own, here)
        others = Others(divided, here, living_streams)
        made = Publishers(router, production, streams, own, tenant.places, tenant.bot, others)
    if paths is None:
        router.attach(production, to_sandboxes)
    else:
        router.attach(paths[0].to(production), paths[1].to(to_sandboxes))
    return made
