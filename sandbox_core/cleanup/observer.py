"""Counts the work of cleanup."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sandbox_core.errors import ERROR_CODES

_RESULTS = ("ok", "partial", "failed", "unavailable")
OTHER_OWNERS = "other"
"""The common label of all owners without their own label."""
_PASS_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)


class CleanupObserver:
    """Gets passes, failures and counts, and ignores them; durations are in seconds."""

    def passed(self, result: str, seconds: float, destroyed: int) -> None:
        """Note the end of a pass with work; `result` is `ok`, `partial`, `failed` or `unavailable`."""

    def failed(self, error_type: str) -> None:
        """Note a failed step; `error_type` is an error code, or `INTERNAL` for a fault without one."""

    def orphans(self, counts: Mapping[str, int]) -> None:
        """Note the orphans in each readable store."""

    def population(self, by_owner: Mapping[str, int]) -> None:
        """Note each owner's number of sandboxes that are not destroyed."""


class CleanupMetrics(CleanupObserver):
    """The Prometheus metrics of cleanup. A pass without work is not counted.

    `owner_labels` is the number of owners, those with the most sandboxes, with their own label.
    """

    def __init__(self, registry: CollectorRegistry, *, owner_labels: int = 0) -> None:
        self._owner_labels = owner_labels
        self._runs = Counter(
            "sandbox_cleanup_runs_total", "Cleanup passes by result", ["result"], registry=registry
        )
        self._sandboxes = Counter(
            "sandbox_cleanup_sandboxes_total", "Sandboxes that cleanup removed", registry=registry
        )
        self._seconds = Histogram(
            "sandbox_cleanup_duration_seconds",
            "Length of a cleanup pass",
            buckets=_PASS_BUCKETS,
            registry=registry,
        )
        self._errors = Counter(
            "sandbox_cleanup_errors_total",
            "Failed steps of cleanup, by error code",
            ["error_type"],
            registry=registry,
        )
        self._orphans = Gauge(
            "sandbox_orphaned_resources",
            "Resources without a live sandbox, at the last search",
            ["store"],
            registry=registry,
        )
        self._active = Gauge("sandbox_active_count", "Sandboxes that are not destroyed", registry=registry)
        self._owners = Gauge(
            "sandbox_active_total",
            "Sandboxes that are not destroyed, by owner; the owners with few of them together",
            ["owner"],
            registry=registry,
        )
        self._owners.labels(owner=OTHER_OWNERS).set(0)
        for result in _RESULTS:
            self._runs.labels(result=result)
        for error_type in (*ERROR_CODES, "INTERNAL"):
            self._errors.labels(error_type=error_type)

    def passed(self, result: str, seconds: float, destroyed: int) -> None:
        """Count a pass."""
        self._runs.labels(result=result).inc()
        self._seconds.observe(seconds)
        self._sandboxes.inc(destroyed)

    def failed(self, error_type: str) -> None:
        """Count a failed step."""
        self._errors.labels(error_type=error_type).inc()

    def orphans(self, counts: Mapping[str, int]) -> None:
        """Set the counts of the last search."""
        for store, count in counts.items():
            self._orphans.labels(store=store).set(count)

    def population(self, by_owner: Mapping[str, int]) -> None:
        """Set the numbers of sandboxes."""
        self._active.set(sum(by_owner.values()))
        busiest = sorted(by_owner.items(), key=lambda each: (-each[1], each[0]))
        self._owners.clear()
        for owner, count in busiest[: self._owner_labels]:
            self._owners.labels(owner=owner).set(count)
        self._owners.labels(owner=OTHER_OWNERS).set(sum(n for _, n in busiest[self._owner_labels :]))
