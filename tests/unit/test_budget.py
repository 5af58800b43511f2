"""The sandboxes' budgets against a model, with clocks in the test's hand."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sandbox_core.event_router.budget import BudgetLimits, SandboxBudgets
from sandbox_core.event_router.lane import Event, Lane
from sandbox_core.event_router.ledger import ShardLedger
from sandbox_core.events import read_frame
from sandbox_core.metrics import Drop
from sandbox_core.nats.patience import Patience
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.wire import Label

SANDBOXES = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(3)]
LIMITS = BudgetLimits(events=4, size=600, all_events=8, all_size=1200)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budgets_of(clock: Clock, limits: BudgetLimits = LIMITS) -> tuple[SandboxBudgets, dict[Drop, int]]:
    dropped: dict[Drop, int] = dict.fromkeys(get_args(Drop), 0)
    return SandboxBudgets(limits, dropped, now=clock, monotonic=clock), dropped


def event(seq: int, size: int = 60) -> Event:
    head = b'{"t":"TEST","s":%d,"op":0,"d":"' % seq
    frame = read_frame(head + b"x" * max(0, size - len(head) - 2) + b'"}', 0.0)
    return Event(frame, ShardLedger("session", 0), Lane("1"))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.integers(60, 400)),
        st.tuples(st.just("done"), st.integers(0, 2), st.integers(0, 10)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS)
def test_whatever_comes_the_limits_hold_and_the_oldest_go(steps: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    budgets, dropped = budgets_of(clock)
    model: dict[str, list[Event]] = {sandbox_id: [] for sandbox_id in SANDBOXES}
    added = done = 0
    for seq, (what, which, number) in enumerate(steps, 1):
        sandbox_id = SANDBOXES[which]
        mine = model[sandbox_id]
        if what == "done":
            if mine:
                budgets.stored(mine.pop(number % len(mine)))
                done += 1
            continue
        added += 1
        new = event(seq, number)
        mine.append(new)
        budget = budgets.add(sandbox_id, new)
        while (overdrawn := budgets.overdrawn(budget)) is not None:
            oldest = next(iter(overdrawn.events))
            assert oldest is model[overdrawn.sandbox_id].pop(0)
            budgets.drop(oldest, "budget")
        sizes = {key: sum(len(each.frame.raw) for each in events) for key, events in model.items()}
        assert all(len(events) <= LIMITS.events for events in model.values())
        assert all(size <= LIMITS.size for size in sizes.values())
        assert budgets.count == sum(map(len, model.values())) <= LIMITS.all_events
        assert budgets.size == sum(sizes.values()) <= LIMITS.all_size
    assert added == done + dropped["budget"] + sum(map(len, model.values()))
    told = budgets.drain_dropped()
    assert sum(lost.events for lost in told.values()) == dropped["budget"]
    assert budgets.drain_dropped() == {}
    for events in model.values():
        for each in events:
            budgets.stored(each)
    assert (budgets.count, budgets.size) == (0, 0)


def test_one_sandbox_pays_for_itself_and_the_largest_for_all(clock: Clock) -> None:
    budgets, _ = budgets_of(clock, BudgetLimits(events=5, size=10_000, all_events=6, all_size=100_000))
    for seq in range(5):
        assert budgets.overdrawn(budgets.add(SANDBOXES[0], event(seq))) is None
    one = budgets.add(SANDBOXES[1], event(10))
    assert budgets.overdrawn(one) is None
    too_many = budgets.overdrawn(budgets.add(SANDBOXES[1], event(11)))
    assert too_many is not None
    assert too_many.sandbox_id == SANDBOXES[0]


def test_an_episode_is_logged_at_its_begin_and_with_its_number_at_its_end(clock: Clock) -> None:
    budgets, _ = budgets_of(clock)
    kept = event(99)
    with capture_logs() as logs:
        for seq in range(7):
            one = event(seq)
            budgets.add(SANDBOXES[0], one)
            budgets.drop(one, "refused" if seq else "budget")
        assert budgets.losing == 1
        clock.now += 100
        budgets.look()
        assert budgets.losing == 1, "nothing was stored since"
        budgets.add(SANDBOXES[0], kept)
        budgets.stored(kept)
        budgets.look()
        budgets.look()
    assert budgets.losing == 0
    assert [(line["event"], line["sandbox_id"]) for line in logs] == [
        ("sandbox_events_dropping", SANDBOXES[0]),
        ("sandbox_events_dropping_over", SANDBOXES[0]),
    ]
    assert (logs[1]["dropped"], logs[1]["reasons"]) == (7, {"budget": 1, "refused": 6})
    assert budgets.drain_dropped() == {SANDBOXES[0]: (7, 1000.0)}


def test_an_episode_of_a_sandbox_that_gets_nothing_more_ends_at_last(clock: Clock) -> None:
    budgets, _ = budgets_of(clock)
    one = event(1)
    budgets.add(SANDBOXES[0], one)
    budgets.drop(one, "no_ack")
    clock.now += 599
    budgets.look()
    assert budgets.losing == 1
    clock.now += 1
    budgets.look()
    assert budgets.losing == 0


def publication(number: int, unanswered: int = 0) -> Publication:
    made = Publication(Label("sandbox.x", {}), str(number), b"", None, unanswered=unanswered)
    made.number = number
    return made


def test_patience_ends_only_while_production_s_stream_works() -> None:
    works, hindering = True, set[int]()
    patience = Patience(lambda: works, lambda one: one.number in hindering, long=30, short=3)
    refused, silent = publication(1), publication(2, unanswered=2)

    def ended(now: float, *, is_open: bool = True) -> list[tuple[int, str]]:
        return [(one.number, why) for one, why in patience.ended([refused, silent], now, is_open=is_open)]

    assert ended(0) == ended(29) == []
    works = False
    assert ended(40) == []
    works = True
    # It begins anew.
    assert ended(41) == ended(70) == []
    assert ended(71) == [(1, "refused"), (2, "no_ack")]
    assert ended(71, is_open=False) == [(1, "no_stream"), (2, "no_stream")]
    works = False
    ended(72)
    works = True
    hindering.add(1)
    assert ended(80) == ended(82) == []
    assert ended(83) == [(1, "refused")]
