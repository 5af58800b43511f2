"""What a scrape says agrees with what was counted."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sandbox_core.metrics import Metrics, PlainHistogram


def scraped(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_event_path_is_counted() -> None:
    metrics = Metrics()
    metrics.routing.routed["sandbox"] += 3
    metrics.routing.held += 1
    metrics.routing.table_lookups += 4
    metrics.routing.error("refused")
    metrics.routing.error("refused")
    metrics.routing.lookup("redis", "miss", 5)
    metrics.routing.route_seconds.observe(0.003)
    metrics.live_gauge("sandbox_gateway_inflight", "in flight", lambda: 7)
    samples = scraped(metrics)
    assert samples[("sandbox_events_routed_total", (("destination", "sandbox"),))] == 3
    assert samples[("sandbox_events_routed_total", (("destination", "production"),))] == 0
    assert samples[("sandbox_events_routed_total", (("destination", "held"),))] == 1
    assert samples[("sandbox_event_routing_errors_total", (("reason", "refused"),))] == 2
    assert samples[("sandbox_route_lookups_total", (("result", "hit"), ("tier", "table")))] == 4
    assert samples[("sandbox_route_lookups_total", (("result", "miss"), ("tier", "redis")))] == 5
    assert samples[("sandbox_event_route_duration_seconds_count", ())] == 1
    assert samples[("sandbox_gateway_inflight", ())] == 7


def test_the_life_cycle_is_counted() -> None:
    metrics = Metrics()
    metrics.created(0.2)
    metrics.create_failed("SANDBOX_002")
    metrics.destroyed(0.1)
    samples = scraped(metrics)
    assert samples[("sandbox_created_total", ())] == 1
    assert samples[("sandbox_destroyed_total", ())] == 1
    assert samples[("sandbox_creation_duration_seconds_count", ())] == 1
    assert samples[("sandbox_create_failures_total", (("reason", "SANDBOX_002"),))] == 1


def test_a_histogram_is_cumulative_and_its_bounds_are_inclusive() -> None:
    histogram = PlainHistogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 5.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert histogram.total == 5.65
