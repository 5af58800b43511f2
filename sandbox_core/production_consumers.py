"""Measures how far production's consumers are behind: asked of JetStream, off every event's path."""

from __future__ import annotations

from collections.abc import Sequence

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from prometheus_client import CollectorRegistry, Gauge

from .errors import DependencyUnavailable
from .nats.consumers import Consumer, Consumers, consumers_of
from .nats.errors import DEPENDENCY, translating
from .subjects import StreamNames

MOST_LABELS, OTHERS = 20, "other"
"""How many consumers, those that are the most behind, have a label of their own; and that of the rest."""


class ConsumerMetrics:
    """The gauges. What can't be read has no value: 0 would say that all is well."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def by_consumer(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, ["consumer"], registry=registry)

        self._lag = by_consumer(
            "sandbox_production_consumer_lag",
            "Events of production that a consumer has still to be sent; those least behind together",
        )
        self._unacknowledged = by_consumer(
            "sandbox_production_consumer_unacknowledged",
            "Events a consumer was sent and has not confirmed",
        )
        self._redelivered = by_consumer(
            "sandbox_production_consumer_redelivered", "How many of these it was sent more than once"
        )
        self._letters = Gauge(
            "sandbox_production_dead_letters",
            "Dead letters in production's stream, by who could not handle the event",
            ["source"],
            registry=registry,
        )
        self._read = Gauge(
            "sandbox_production_consumers_read",
            "1 while production's consumers could be read; 0 while NATS refuses that or is away",
            registry=registry,
        )
        self._by_consumer = (self._lag, self._unacknowledged, self._redelivered)

    def show(self, consumers: Consumers, letters: dict[str, int]) -> None:
        """Set the gauges."""
        # A consumer that ends with its user often has a name made of chance: it would be a series for ever.
        own = [each for each in consumers.known if each.durable and each.name != OTHERS][:MOST_LABELS]
        labelled = {each.name for each in own}
        rest = [each for each in consumers.known if each.name not in labelled]
        for gauge in self._by_consumer:
            gauge.clear()
        for each in own:
            self._set(each.name, [each])
        self._set(OTHERS, rest)
        for source, count in letters.items():
            self._letters.labels(source=source).set(count)
        self._read.set(1)

    def unread(self) -> None:
        """Show no value."""
        for gauge in (*self._by_consumer, self._letters):
            gauge.clear()
        self._read.set(0)

    def _set(self, label: str, consumers: Sequence[Consumer]) -> None:
        self._lag.labels(consumer=label).set(sum(each.lag for each in consumers))
        unacknowledged = sum(each.unacknowledged for each in consumers)
        self._unacknowledged.labels(consumer=label).set(unacknowledged)
        self._redelivered.labels(consumer=label).set(sum(each.redelivered for each in consumers))


class ProductionConsumers:
    """Reads them. Every process that does so sees the same."""

    def __init__(self, js: JetStreamContext, names: StreamNames, metrics: ConsumerMetrics) -> None:
        self._js = js
        self._names = names
        self._metrics = metrics

    async def refresh_gauges(self) -> None:
        """Ask NATS, and bring the gauges up to date. Raises `DependencyUnavailable`."""
        try:
            consumers = await consumers_of(self._js, self._names.events)
            letters = await self._letters()
        except BaseException:
            self._metrics.unread()
            raise
        self._metrics.show(consumers, letters)

    async def _letters(self) -> dict[str, int]:
        unhandled = self._names.dead_letter_subject("UNHANDLED")
        every = self._names.dead_letter_subject("X").removesuffix("X") + ">"
        with translating():
            try:
                info = await self._js.stream_info(self._names.events, subjects_filter=every)
            except NotFoundError:
                raise DependencyUnavailable(
                    DEPENDENCY, f"the stream {self._names.events} is missing"
                ) from None
        found = info.state.subjects or {}
        workers = found.get(unhandled, 0)
        return {"worker": workers, "bot": sum(found.values()) - workers}
