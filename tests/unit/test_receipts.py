"""From which moment on the streams have to be read for a session: never too late."""

from __future__ import annotations

from sandbox_core.sharding.shard_session import Receipts


def test_the_moment_is_before_every_frame_that_is_not_done() -> None:
    receipts = Receipts("session", 100.0, 0)
    receipts.mark(101.0, 10)
    receipts.mark(102.0, 20)
    receipts.mark(103.0, 30)
    assert receipts.since(9) == 100.0
    assert receipts.since(10) == 101.0
    assert receipts.since(25) == 102.0
    assert receipts.since(30) == 103.0
    # While nothing comes, the moment goes on.
    receipts.mark(104.0, 30)
    receipts.mark(105.0, 30)
    assert receipts.since(30) == 105.0


def test_what_another_process_may_have_published_keeps_its_moment() -> None:
    receipts = Receipts("session", 50.0, 10, stored={12, 40})
    receipts.mark(101.0, 11)
    receipts.mark(102.0, 39)
    assert receipts.since(39) == 50.0
    receipts.mark(103.0, 41)
    assert receipts.since(40) == 102.0
    assert receipts.since(41) == 103.0


def test_a_frame_that_is_never_acknowledged_costs_no_memory() -> None:
    receipts = Receipts("session", 0.0, 0)
    for tick in range(1, 100_001):
        receipts.mark(tick / 10, tick)
    assert len(receipts._marks) <= 1000
    assert receipts.since(0) == 0.0
    moment = receipts.since(50_000)
    assert 0.0 < moment <= 5000.0
