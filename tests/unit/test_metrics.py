"""What a scrape says agrees with what was counted."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from sandbox_core.cleanup import CleanupMetrics
from sandbox_core.metrics import Metrics, PlainHistogram
from sandbox_core.nats.consumers import Consumer, Consumers
from sandbox_core.production_consumers import ConsumerMetrics


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
    metrics.create_failed("SANDBOX_002", 0.001)
    metrics.destroyed(0.1)
    samples = scraped(metrics)
    assert samples[("sandbox_created_total", ())] == 1
    assert samples[("sandbox_destroyed_total", ())] == 1
    assert samples[("sandbox_creation_duration_seconds_count", ())] == 1
    assert samples[("sandbox_create_failures_total", (("reason", "SANDBOX_002"),))] == 1


@pytest.mark.parametrize("reason", ["CANCELLED", "INTERNAL", "SANDBOX_005", "SANDBOX_012"])
def test_creations_that_did_not_succeed_are_no_faster_for_it(reason: str) -> None:
    metrics = Metrics()
    metrics.created(0.2)
    metrics.create_failed(reason, 8.1)
    samples = scraped(metrics)
    assert samples[("sandbox_creation_duration_seconds_bucket", (("le", "5.0"),))] == 1
    assert samples[("sandbox_creation_duration_seconds_bucket", (("le", "10.0"),))] == 2
    assert samples[("sandbox_created_total", ())] == 1


def test_a_histogram_is_cumulative_and_its_bounds_are_inclusive() -> None:
    histogram = PlainHistogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 5.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert histogram.total == 5.65


def test_what_may_fail_is_there_at_zero_before_it_fails() -> None:
    metrics = Metrics()
    CleanupMetrics(metrics.registry)
    samples = scraped(metrics)
    for sample in (
        ("sandbox_event_routing_errors_total", (("reason", "ack_timeout"),)),
        ("sandbox_create_failures_total", (("reason", "SANDBOX_005"),)),
        ("sandbox_cleanup_errors_total", (("error_type", "SANDBOX_012"),)),
        ("sandbox_cleanup_runs_total", (("result", "failed"),)),
        ("sandbox_gateway_dropped_total", (("reason", "unreadable"),)),
        ("sandbox_gateway_gaps_total", ()),
        ("sandbox_route_lookups_total", (("result", "error"), ("tier", "redis"))),
    ):
        assert samples[sample] == 0


def test_only_the_owners_with_the_most_sandboxes_have_a_label() -> None:
    metrics = Metrics()
    cleanup = CleanupMetrics(metrics.registry, owner_labels=2)

    def owners() -> dict[str, float]:
        return {
            labels[0][1]: value
            for (name, labels), value in scraped(metrics).items()
            if name == "sandbox_active_total"
        }

    cleanup.population({"1": 1, "2": 5, "3": 2, "4": 2})
    assert owners() == {"2": 5, "3": 2, "other": 3}
    assert scraped(metrics)["sandbox_active_count", ()] == 10
    cleanup.population({"4": 1})
    assert owners() == {"4": 1, "other": 0}


def test_only_the_sandboxes_with_the_most_dead_letters_have_a_label() -> None:
    metrics = Metrics()

    def letters() -> dict[str, float]:
        return {
            labels[0][1]: value
            for (name, labels), value in scraped(metrics).items()
            if name == "sandbox_dead_letters"
        }

    assert letters() == {"other": 0}
    metrics.dead_letters({f"{number:08x}-0000-4000-8000-000000000000": number for number in range(1, 31)})
    assert letters() == {f"{number:08x}": number for number in range(11, 31)} | {"other": 55}
    metrics.dead_letters({})
    assert letters() == {"other": 0}


def test_openmetrics_says_the_same() -> None:
    metrics = Metrics()
    metrics.routing.routed["sandbox"] += 3
    metrics.routing.route_seconds.observe(0.003)
    CleanupMetrics(metrics.registry).population({"1": 2})
    text = generate_openmetrics(metrics.registry).decode()
    families = {family.name: family for family in parse_openmetrics(text)}
    assert families["sandbox_events_routed"].type == "counter"
    assert sum(sample.value for sample in families["sandbox_events_routed"].samples) == 3
    assert families["sandbox_event_route_duration_seconds"].type == "histogram"


def test_only_durable_consumers_and_few_of_them_have_a_label() -> None:
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)

    def lags() -> dict[str, float]:
        return {
            sample.labels["consumer"]: sample.value
            for family in text_string_to_metric_families(generate_latest(registry).decode())
            for sample in family.samples
            if sample.name == "sandbox_production_consumer_lag"
        }

    assert (lags(), registry.get_sample_value("sandbox_production_consumers_read")) == ({}, 0)
    known = tuple(Consumer(f"c{number:02}", True, 100 - number, 2, 1) for number in range(30))
    passing = (Consumer("aXy123", False, 7, 0, 0), Consumer("other", True, 5, 0, 0))
    metrics.show(Consumers((*known, *passing)), {"worker": 3, "bot": 0})
    rest = sum(each.lag for each in known[20:]) + 12
    assert lags() == {f"c{number:02}": 100 - number for number in range(20)} | {"other": rest}
    others = {"consumer": "other"}
    assert registry.get_sample_value("sandbox_production_consumer_redelivered", others) == 10
    assert registry.get_sample_value("sandbox_production_consumer_unacknowledged", others) == 20
    assert registry.get_sample_value("sandbox_production_dead_letters", {"source": "worker"}) == 3
    metrics.show(Consumers(()), {"worker": 0, "bot": 0})
    assert lags() == {"other": 0}
    metrics.unread()
    assert (lags(), registry.get_sample_value("sandbox_production_consumers_read")) == ({}, 0)
