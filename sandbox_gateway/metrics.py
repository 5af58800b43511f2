"""The metrics of the gateway endpoint, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LAG_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class ClientMetrics:
    """Counts what sessions of unmodified bots do."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.sessions = Gauge(
            "sandbox_client_sessions", "Sessions of unmodified bots in this process.", registry=registry
        )
        self.identifies = Counter(
            "sandbox_client_identifies_total", "IDENTIFYs, by result.", ["result"], registry=registry
        )
        self.resumes = Counter(
            "sandbox_client_resumes_total", "RESUMEs, by result.", ["result"], registry=registry
        )
        self.events = Counter("sandbox_client_events_total", "Events sent to clients.", registry=registry)
        self.lag = Histogram(
            "sandbox_client_event_lag_seconds",
            "From an event's storage in the stream to its sending to a client.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self.closed = Counter(
            "sandbox_client_closed_total",
            "Connections that were ended here, by code.",
            ["code"],
            registry=registry,
        )
