"""The bookkeeping of a session: the resume point never passes a frame that is not done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.event_router import ShardLedger


def test_the_resume_point_waits_for_the_oldest_frame() -> None:
    ledger = ShardLedger("session", 0)
    for seq in (1, 3, 4, 9):
        assert ledger.receive(seq)
    ledger.done(4)
    ledger.done(3)
    assert (ledger.acknowledged, ledger.lag) == (0, 2)
    ledger.done(1)
    assert (ledger.acknowledged, ledger.lag) == (4, 1)
    ledger.done(9)
    assert (ledger.acknowledged, ledger.lag, ledger.received) == (9, 0, 9)


def test_what_is_stored_already_counts_as_done_when_it_is_replayed() -> None:
    ledger = ShardLedger("session", 0, acknowledged=5, stored={7, 8, 20})
    assert [ledger.receive(seq) for seq in (6, 7, 8, 9)] == [True, False, False, True]
    assert (ledger.acknowledged, ledger.lag) == (5, 2)
    ledger.done(6)
    assert (ledger.acknowledged, ledger.lag) == (8, 1)


def test_a_replay_brings_only_what_is_not_here() -> None:
    ledger = ShardLedger("session", 0, acknowledged=5)
    assert not ledger.receive(5)
    assert ledger.receive(6)
    assert not ledger.receive(6)
    assert ledger.receive(8)


@given(st.lists(st.integers(1, 500), unique=True, min_size=1, max_size=60), st.randoms())
def test_the_resume_point_is_the_last_contiguous_one(seqs: list[int], random: object) -> None:
    seqs.sort()
    ledger = ShardLedger("session", 0)
    for seq in seqs:
        ledger.receive(seq)
    order = list(seqs)
    random.shuffle(order)  # type: ignore[attr-defined]
    done: set[int] = set()
    for seq in order:
        ledger.done(seq)
        done.add(seq)
        contiguous = 0
        for candidate in seqs:
            if candidate not in done:
                break
            contiguous = candidate
        assert ledger.acknowledged == contiguous
        assert ledger.lag == len(seqs) - len(done)
