"""As of when the table is known, guild by guild."""

from __future__ import annotations

import math

from sandbox_core.route_provider.freshness import Freshness


def test_a_heartbeat_counts_for_all_but_what_still_has_to_be_read() -> None:
    moments = Freshness()
    assert moments.of("a") == -math.inf
    moments.loaded(10.0, ())
    assert (moments.of("a"), moments.of("b")) == (10.0, 10.0)
    # The notification comes with the heartbeat's answer, and before what it says.
    moments.doubted({"a"})
    moments.confirmed(12.0, {"a"})
    assert (moments.of("a"), moments.of("b")) == (10.0, 12.0)
    moments.read({"a"}, 12.5)
    assert (moments.of("a"), moments.of("b")) == (12.5, 12.0)
    moments.confirmed(14.0, ())
    assert (moments.of("a"), moments.of("b")) == (14.0, 14.0)


def test_what_was_read_before_another_change_is_known_as_of_then() -> None:
    moments = Freshness()
    moments.loaded(10.0, ())
    moments.read({"a"}, 11.0)
    moments.doubted({"a"})
    moments.confirmed(12.0, {"a"})
    assert moments.of("a") == 11.0


def test_a_full_read_counts_for_all() -> None:
    moments = Freshness()
    moments.loaded(10.0, ())
    moments.doubted({"a", "b"})
    moments.loaded(20.0, {"a"})
    assert (moments.of("a"), moments.of("b")) == (20.0, 20.0)
    # One of which something has come since is not known as of the next heartbeat.
    moments.confirmed(22.0, {"a"})
    assert (moments.of("a"), moments.of("b")) == (20.0, 22.0)
