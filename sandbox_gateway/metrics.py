"""The metrics of the gateway endpoint, in a registry of its own.

Every label is a word of this package: none grows with sandboxes, servers or what clients send. Each series is
there from the start, at 0, so that the first increase of a counter is one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sandbox_core.metrics import PlainHistogram

from .sessions.protocol import CloseCode

_LAG_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_IDENTIFIES = ("accepted", "token_refused", "disallowed_intents", "too_soon", "used_up", "too_many_servers")
_RESUMES = ("accepted", "token_refused", "unknown_session", "too_late", "events_lost")
_ANSWERS = ("2xx", "3xx", "401", "403", "429", "4xx", "5xx", "away")
_STOPS = ("global_limit", "address_blocked")
_SINGLE = frozenset({401, 403, 429})


class ClientMetrics:
    """Counts what sessions of unmodified bots do."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.ready = Gauge(
            "sandbox_client_ready", "1 while it is known here who may connect.", registry=registry
        )
        self.sessions = Gauge(
            "sandbox_client_sessions", "Sessions of unmodified bots in this process.", registry=registry
        )
        self.identifies = Counter(
            "sandbox_client_identifies_total", "IDENTIFYs, by result.", ["result"], registry=registry
        )
        self.resumes = Counter(
            "sandbox_client_resumes_total", "RESUMEs, by result.", ["result"], registry=registry
        )
        self.lag = PlainHistogram(_LAG_BUCKETS)
        """Of each event that was sent, from its storage in the stream on."""
        registry.register(_Sent(self.lag))
        self.closed = Counter(
            "sandbox_client_closed_total",
            "Connections that were ended here, by code.",
            ["code"],
            registry=registry,
        )
        _begin(self.identifies, _IDENTIFIES)
        _begin(self.resumes, _RESUMES)
        _begin(self.closed, [str(int(code)) for code in CloseCode])


class _Sent(Collector):
    """What is counted for each event to each client."""

    def __init__(self, lag: PlainHistogram) -> None:
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        """Return its metrics now."""
        yield CounterMetricFamily(
            "sandbox_client_events", "Events sent to clients.", value=sum(self._lag.counts)
        )
        lag = HistogramMetricFamily(
            "sandbox_client_event_lag_seconds",
            "From an event's storage in the stream to its sending to a client.",
        )
        lag.add_metric([], self._lag.cumulative(), self._lag.total)
        yield lag


class UpstreamMetrics:
    """Counts what Discord answered to all sandboxes, and how much of their share they use."""

    def __init__(self, registry: CollectorRegistry) -> None:
        answers = Counter(
            "sandbox_client_upstream_answers_total",
            "Discord's answers to sandboxes, by status; `away` without one.",
            ["status"],
            registry=registry,
        )
        self.stops = Counter(
            "sandbox_client_upstream_stops_total",
            "Answers that stop all sandboxes for a time, by reason.",
            ["reason"],
            registry=registry,
        )
        self.share_used = Gauge(
            "sandbox_client_share_used_ratio",
            "This process's calls to Discord in the last minute, by what all sandboxes may ask in it.",
            registry=registry,
        )
        self._answers = {status: answers.labels(status) for status in _ANSWERS}
        _begin(self.stops, _STOPS)

    def answered(self, status: int | None, *, authorized: bool) -> None:
        """Count an answer; None for none. Only a 401 to the real token is about that token."""
        if status is None:
            label = "away"
        elif status in _SINGLE and (authorized or status != 401):
            label = str(status)
        else:
            label = f"{status // 100}xx"
        self._answers[label].inc()


class LastMinute:
    """How many there were in the last 60 seconds; `monotonic` is in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seconds: deque[tuple[int, int]] = deque(maxlen=60)
        """Seconds in which there were some, each with their number."""

    def note(self) -> None:
        """Count one."""
        second = int(self._monotonic())
        count = 0
        if self._seconds and self._seconds[-1][0] == second:
            _, count = self._seconds.pop()
        self._seconds.append((second, count + 1))

    @property
    def count(self) -> int:
        """The number."""
        since = self._monotonic() - 60
        return sum(count for second, count in self._seconds if second > since)


def _begin(counter: Counter, values: tuple[str, ...] | list[str]) -> None:
    for value in values:
        counter.labels(value)
