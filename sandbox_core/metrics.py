"""The Prometheus metrics, in their own registry.

The event path counts in plain integers and lists, and a scrape turns them into samples. So an event costs an
addition and no lock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .errors import ERROR_CODES

# A quantile is never above the last bound, so this bound is above the limit of every alert.
_COMMAND_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120)

# Every label value starts at 0: `increase` does not see the first failure of a series that starts with it.
_PUBLISH_FAILURES = (
    "connection",
    "no_stream",
    "refused",
    "ack_timeout",
    "dead_letter",
    "id_taken",
    "not_judged",
)
_LOOKUPS = (
    *(("redis", result) for result in ("hit", "miss", "error")),
    *(("postgres", result) for result in ("hit", "error")),
    ("last_table", "hit"),
    ("none", "unknown"),
)
_ATTRIBUTIONS = (
    *(("redis", result) for result in ("hit", "miss", "error")),
    *(("discord", result) for result in ("hit", "miss", "error")),
    ("none", "unknown"),
)
_DROPS = ("unreadable", "no_session")
_CREATE_FAILURES = (*ERROR_CODES, "CANCELLED", "INTERNAL")
# The other codes are refusals, which take milliseconds and would hide the duration of real work.
_ATTEMPTS_THAT_FAILED = {"SANDBOX_005", "SANDBOX_006", "SANDBOX_012", "SANDBOX_013", "CANCELLED", "INTERNAL"}

_COMMANDS = (
    *("create", "list", "status", "events", "connect", "rotate", "level", "share", "unshare"),
    *("register-guild", "unregister-guild", "extend", "reset", "destroy", "help"),
)
_NO_COMMAND = "button"
_SANDBOX_LABELS, _OTHERS = 20, "other"
"""How many sandboxes, those with the most dead letters, have a label of their own; and that of the rest."""
CommandOutcome = Literal["done", "refused", "unavailable", "failed"]
"""Answered; refused by a rule; a server is away (`SANDBOX_012`); a step or the program failed."""

Drop = Literal["budget", "refused", "no_stream", "no_ack"]
"""Why a sandbox loses an event: its budget is used up; its stream refuses the event, is missing or can't be
used, or does not answer."""

_EVENT_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class PlainHistogram:
    """A histogram in seconds; an observation costs a bisection and three additions."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = _EVENT_BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration in seconds."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the buckets in Prometheus' form: cumulative, ending with +Inf."""
        running = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        return buckets


class RoutingMetrics(Collector):
    """The counters of the event path. The router and the route provider add to them directly."""

    def __init__(self) -> None:
        self.routed: dict[str, int] = dict.fromkeys(
            ("sandbox", "production", "unattributed", "dead_letter"), 0
        )
        """Acknowledged events, by destination."""
        self.held = 0
        """Events that had to wait for a known route."""
        self.errors: dict[str, int] = dict.fromkeys(_PUBLISH_FAILURES, 0)
        """Failed publish attempts, by reason; the event itself is kept and tried again."""
        self.lookups: dict[tuple[str, str], int] = dict.fromkeys(_LOOKUPS, 0)
        """Route look-ups beyond the in-process table, by (tier, result)."""
        self.attributions: dict[tuple[str, str], int] = dict.fromkeys(_ATTRIBUTIONS, 0)
        """Look-ups of the guild of an event without one, by (tier, result); `none` when no tier knew it."""
        self.table_lookups = 0
        """Events decided by the in-process table alone."""
        self.dropped: dict[str, int] = dict.fromkeys(_DROPS, 0)
        """Frames that can't be routed, by reason: no gateway frame, or a frame of no session."""
        self.sandbox_dropped: dict[Drop, int] = dict.fromkeys(get_args(Drop), 0)
        """Events that a sandbox lost, by reason: its stream does not take them, or its budget is used up."""
        self.route_seconds = PlainHistogram()
        """From reading the frame to its ack."""
        self.lookup_seconds = PlainHistogram()
        """Route look-ups beyond the in-process table."""

    def error(self, reason: str) -> None:
        """Count a failed attempt; `reason` is from a fixed set."""
        self.errors[reason] = self.errors.get(reason, 0) + 1

    def lookup(self, tier: str, result: str, count: int = 1) -> None:
        """Count route look-ups that one tier beyond the table answered or failed."""
        key = (tier, result)
        self.lookups[key] = self.lookups.get(key, 0) + count

    def attribution(self, tier: str, result: str) -> None:
        """Count a look-up of the guild of an event without one; both values are from fixed sets."""
        self.attributions[tier, result] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the families for a scrape."""
        routed = CounterMetricFamily(
            "sandbox_events_routed",
            "Events acknowledged by JetStream, by destination",
            labels=["destination"],
        )
        for destination, count in self.routed.items():
            routed.add_metric([destination], count)
        routed.add_metric(["held"], self.held)
        yield routed
        errors = CounterMetricFamily(
            "sandbox_event_routing_errors", "Publish attempts that failed and were retried", labels=["reason"]
        )
        for reason, count in list(self.errors.items()):
            errors.add_metric([reason], count)
        yield errors
        dropped = CounterMetricFamily(
            "sandbox_gateway_dropped", "Frames that could not be routed, by reason", labels=["reason"]
        )
        for reason, count in self.dropped.items():
            dropped.add_metric([reason], count)
        yield dropped
        lost = CounterMetricFamily(
            "sandbox_events_dropped", "Events that sandboxes lost, by reason", labels=["reason"]
        )
        for cause, count in self.sandbox_dropped.items():
            lost.add_metric([cause], count)
        yield lost
        lookups = CounterMetricFamily(
            "sandbox_route_lookups", "Route look-ups by tier and result", labels=["tier", "result"]
        )
        lookups.add_metric(["table", "hit"], self.table_lookups)
        for (tier, result), count in list(self.lookups.items()):
            lookups.add_metric([tier, result], count)
        yield lookups
        attributions = CounterMetricFamily(
            "sandbox_event_attributions",
            "Questions for the guild of an event that names none, by tier and result",
            labels=["tier", "result"],
        )
        for (tier, result), count in self.attributions.items():
            attributions.add_metric([tier, result], count)
        yield attributions
        yield _histogram(
            "sandbox_event_route_duration_seconds",
            "Frame read to acknowledged by JetStream",
            self.route_seconds,
        )
        yield _histogram(
            "sandbox_route_lookup_duration_seconds",
            "Route look-ups beyond the in-process table",
            self.lookup_seconds,
        )


def _histogram(name: str, documentation: str, source: PlainHistogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, documentation, buckets=source.cumulative(), sum_value=source.total)


class _LiveGauges(Collector):
    """Gauges whose values are read at the scrape."""

    def __init__(self) -> None:
        self.sources: dict[str, tuple[str, Callable[[], float]]] = {}

    def collect(self) -> Iterable[Metric]:
        for name, (documentation, read) in self.sources.items():
            yield GaugeMetricFamily(name, documentation, value=read())


class Metrics:
    """All metrics of one process, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.routing = RoutingMetrics()
        self.registry.register(self.routing)
        self._live = _LiveGauges()
        self.registry.register(self._live)
        self.created_total = Counter("sandbox_created_total", "Sandboxes created", registry=self.registry)
        self.destroyed_total = Counter(
            "sandbox_destroyed_total", "Sandboxes destroyed", registry=self.registry
        )
        self._resets = Counter(
            "sandbox_resets_total", "Resets of sandboxes, by result", ["result"], registry=self.registry
        )
        for result in ("done", "failed"):
            self._resets.labels(result)
        self.creation_seconds = Histogram(
            "sandbox_creation_duration_seconds",
            "From the request to a running sandbox, or to the end of an attempt that failed or was cancelled",
            buckets=_COMMAND_BUCKETS,
            registry=self.registry,
        )
        self.destroy_seconds = Histogram(
            "sandbox_destroy_duration_seconds",
            "From the request to a destroyed sandbox",
            buckets=_COMMAND_BUCKETS,
            registry=self.registry,
        )
        self.create_failures = Counter(
            "sandbox_create_failures_total",
            "Creations that failed, by error code",
            ["reason"],
            registry=self.registry,
        )
        for reason in _CREATE_FAILURES:
            self.create_failures.labels(reason=reason)
        self.commands = Counter(
            "sandbox_commands_total",
            "Slash commands by how they ended; `button` is for buttons, menus and forms",
            ["command", "outcome"],
            registry=self.registry,
        )
        for command in (*_COMMANDS, _NO_COMMAND):
            for outcome in get_args(CommandOutcome):
                self.commands.labels(command=command, outcome=outcome)
        self.command_seconds = Histogram(
            "sandbox_command_duration_seconds",
            "From an interaction's arrival to its answer",
            buckets=_COMMAND_BUCKETS,
            registry=self.registry,
        )
        self.gateway_connected = Gauge(
            "sandbox_gateway_connected", "1 while the shard has a session", ["shard"], registry=self.registry
        )
        self.gateway_resumes = Counter(
            "sandbox_gateway_resumes_total", "Sessions resumed", registry=self.registry
        )
        self.gateway_gaps = Counter(
            "sandbox_gateway_gaps_total",
            "Sessions that Discord did not resume: events in between may be missing",
            registry=self.registry,
        )
        self._dead_letters = Gauge(
            "sandbox_dead_letters",
            "Events that a sandbox's workers could not handle; the sandboxes with few of them together",
            ["sandbox"],
            registry=self.registry,
        )
        self.dead_letters({})
        self.gateway_identifies = Counter(
            "sandbox_gateway_identifies_total", "New sessions identified", registry=self.registry
        )

    def live_gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Register a gauge whose value is read at the scrape; the last registration of a name counts."""
        self._live.sources[name] = (documentation, read)

    def command(self, name: str | None, outcome: CommandOutcome) -> None:
        """Count a slash command by its name; None or an unknown name is a button, a menu or a form."""
        self.commands.labels(command=name if name in _COMMANDS else _NO_COMMAND, outcome=outcome).inc()

    def dead_letters(self, by_sandbox: Mapping[str, int]) -> None:
        """Set the numbers of dead letters, by sandbox."""
        most = sorted(by_sandbox.items(), key=lambda each: (-each[1], each[0]))
        self._dead_letters.clear()
        for sandbox_id, count in most[:_SANDBOX_LABELS]:
            self._dead_letters.labels(sandbox=sandbox_id[:8]).set(count)
        self._dead_letters.labels(sandbox=_OTHERS).set(sum(count for _, count in most[_SANDBOX_LABELS:]))

    # What the manager reports (its observer).

    def created(self, seconds: float) -> None:
        """Count a sandbox that became `running`, `seconds` after the request."""
        self.created_total.inc()
        self.creation_seconds.observe(seconds)

    def create_failed(self, reason: str, seconds: float) -> None:
        """Count a creation that ended with this error code, `seconds` after the request."""
        self.create_failures.labels(reason=reason).inc()
        if reason in _ATTEMPTS_THAT_FAILED:
            # A command ends after some seconds, so without these the slowest creations would not be observed.
            self.creation_seconds.observe(seconds)

    def destroyed(self, seconds: float) -> None:
        """Count a sandbox that became `destroyed`, `seconds` after the request."""
        self.destroyed_total.inc()
        self.destroy_seconds.observe(seconds)

    def reset(self, result: str, _seconds: float) -> None:
        """Count a reset that a caller asked for."""
        self._resets.labels(result).inc()
