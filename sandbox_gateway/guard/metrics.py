"""Counts the calls of all sandboxes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

UNAVAILABLE = ("control_plane_away", "tenants_stale", "discord_away", "real_token_refused")
TOO_MANY = ("share_of_all", "share_of_sandbox", "too_many_at_once", "stopped", "invalid_requests")
"""The reasons that alerts look at."""
_STATUSES = ("2xx", "3xx", "4xx", "429", "5xx")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class GuardMetrics:
    """The counters. The labels are few: words of this package, and classes of statuses."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "sandbox_client_rest_refused",
            "Calls of sandboxes' bots that did not reach Discord, by reason",
            ["reason"],
            registry=registry,
        )
        answered = Counter(
            "sandbox_client_rest_answered",
            "Calls of sandboxes' bots that Discord answered, by the class of the status",
            ["status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "sandbox_client_rest_seconds",
            "Duration of the calls of sandboxes' bots, Discord included",
            buckets=_SECONDS,
            registry=registry,
        )
        self.unwritten = Gauge(
            "sandbox_client_commands_unwritten",
            "Servers whose commands could not be brought to what is wanted, and are tried again",
            registry=registry,
        )
        self.records_lost = Gauge(
            "sandbox_client_records_lost",
            "Calls and sessions that `sandboxctl calls` and `sessions` do not show",
            registry=registry,
        )
        # There from the start, so that the first one is an increase.
        for reason in (*UNAVAILABLE, *TOO_MANY):
            self._refused.labels(reason)
        self._answered = {status: answered.labels(status) for status in _STATUSES}

    def ended(self, status: int, refused: str, seconds: float) -> None:
        """Count a call with what its bot got."""
        if refused:
            self._refused.labels(refused).inc()
        else:
            self._answered["429" if status == 429 else f"{status // 100}xx"].inc()
        self._seconds.observe(seconds)
