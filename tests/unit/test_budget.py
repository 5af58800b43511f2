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


def publication(number: int, unanswered: int = 0, sandbox_id: str = SANDBOXES[0]) -> Publication:
    label = Label("sandbox.x", {"Sandbox-Id": sandbox_id})
    made = Publication(label, str(number), b"", None, unanswered=unanswered)
    made.number = number
    return made


class Waiting:
    """A patience, and what it is asked about."""

    def __init__(self) -> None:
        self.works = True
        self.hindering: set[int] = set()
        self.came: dict[int, float] = {}
        self.outstanding: list[Publication] = []
        self.patience = Patience(
            lambda: self.works,
            lambda one: one.number in self.hindering,
            lambda one: self.came.get(one.number, 0.0),
            long=30,
            short=3,
        )

    def ended(
        self, now: float, *, is_open: bool = True, is_away: bool = False
    ) -> list[tuple[int, str, float]]:
        ended = self.patience.ended(self.outstanding, now, is_open=is_open, is_away=is_away)
        for publication, _, _ in ended:
            self.outstanding.remove(publication)
        return [(publication.number, reason, before) for publication, reason, before in ended]


def test_patience_ends_only_while_production_s_stream_works() -> None:
    waiting = Waiting()
    waiting.outstanding = [publication(1), publication(2, unanswered=2)]
    assert waiting.ended(0) == waiting.ended(29) == []
    waiting.works = False
    assert waiting.ended(40) == []
    waiting.works = True
    # It begins anew.
    assert waiting.ended(41) == waiting.ended(70) == []
    assert waiting.ended(71) == [(1, "refused", 41), (2, "no_ack", 41)]


def test_while_only_the_sandboxes_server_is_away_nothing_ends_but_what_hinders() -> None:
    waiting = Waiting()
    waiting.outstanding = [publication(1), publication(2)]
    waiting.ended(0)
    waiting.hindering.add(2)
    # From the moment at which it went away.
    assert waiting.ended(29, is_away=True) == waiting.ended(31, is_away=True) == []
    assert waiting.ended(32, is_open=False, is_away=True) == [(2, "no_stream", 29)]
    assert waiting.ended(500, is_away=True) == []
    # And anew from when it is back.
    assert waiting.ended(501) == waiting.ended(530) == []
    assert waiting.ended(531) == [(1, "refused", 501)]


def test_a_missing_stream_is_told_from_one_that_refuses() -> None:
    waiting = Waiting()
    waiting.outstanding = [publication(1, unanswered=1)]
    waiting.ended(0)
    assert waiting.ended(30, is_open=False) == [(1, "no_stream", 0)]


def test_what_production_waits_for_has_a_short_patience() -> None:
    waiting = Waiting()
    waiting.outstanding = [publication(1), publication(2)]
    waiting.hindering.add(1)
    assert waiting.ended(80) == waiting.ended(82) == []
    assert waiting.ended(83) == [(1, "refused", 80)]
    assert waiting.ended(109) == []


def test_after_one_is_given_up_the_next_is_judged_by_when_it_came() -> None:
    waiting = Waiting()
    waiting.outstanding = [publication(1), publication(9, sandbox_id=SANDBOXES[1])]
    waiting.ended(0)
    waiting.ended(20)
    assert waiting.ended(30) == [(1, "refused", 0), (9, "refused", 0)]
    waiting.came = {2: 5.0, 3: 33.0, 10: 5.0}
    waiting.outstanding = [publication(2)]
    assert waiting.ended(31) == []
    assert waiting.ended(35) == [(2, "refused", 5)]
    # Once one is stored, the next has all of the patience again.
    waiting.outstanding = [publication(3)]
    assert waiting.ended(36) == []
    waiting.outstanding = [publication(4)]
    assert waiting.ended(37) == waiting.ended(66) == []
    assert waiting.ended(67) == [(4, "refused", 37)]
    # Of another sandbox none was stored.
    waiting.outstanding = [publication(10, sandbox_id=SANDBOXES[1])]
    assert waiting.ended(68) == [(10, "refused", 38)]
