"""Who may identify when: the daily budget and the spacing, on a clock of their own."""

from __future__ import annotations

import asyncio
import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.sharding.identify import IdentifyGate, StartLimit, pause_before
from sandbox_core.sharding.identify_rows import Attempts
from sandbox_core.sharding.tuning import IDENTIFY_SPACING as SPACING

DAY = 86_400.0


def limit(remaining: int, *, total: int = 1000, reset_after: float = DAY, buckets: int = 1) -> StartLimit:
    """What Discord says."""
    return StartLimit(total, remaining, reset_after, buckets)


@pytest.mark.parametrize(
    ("remaining", "attempts", "pause"),
    [
        (1000, 0, 0.0),
        (1000, 4, 0.0),
        (999, 5, 10.0),
        (999, 6, 20.0),
        (999, 50, 300.0),
        (51, 1, 0.0),
        (50, 0, 0.0),
        (50, 1, DAY / 50),
        (1, 1, DAY),
        (1, 0, 0.0),
    ],
)
def test_the_pause_by_what_is_left_and_what_was_in_vain(remaining: int, attempts: int, pause: float) -> None:
    assert pause_before(limit(remaining), attempts, shard_count=1) == pause


def test_a_start_of_all_shards_is_kept_when_it_is_more_than_five_per_cent() -> None:
    assert limit(200).reserve(shard_count=1) == 50
    assert limit(200).reserve(shard_count=160) == 160
    assert pause_before(limit(160), 1, shard_count=160) == DAY


@given(total=st.sampled_from([1000, 2000]), shards=st.integers(1, 48), used=st.integers(0, 900))
def test_a_crash_loop_of_all_shards_never_uses_the_budget_up(total: int, shards: int, used: int) -> None:
    remaining, free_at = total - used, 0.0
    last, attempts = [0.0] * shards, [0] * shards
    due = [(0.0, shard) for shard in range(shards)]
    while due[0][0] < DAY:
        at, shard = heapq.heappop(due)
        pause = pause_before(limit(remaining, total=total, reset_after=DAY - at), attempts[shard], shards)
        if last[shard] + pause > at:
            heapq.heappush(due, (last[shard] + pause, shard))
        elif free_at > at:
            heapq.heappush(due, (free_at, shard))
        else:
            assert remaining > 0
            remaining -= 1
            attempts[shard] += 1
            last[shard], free_at = at, at + SPACING
            heapq.heappush(due, (at + SPACING, shard))


class Rows:
    """The processes' common rows, in memory, and away when a test says so."""

    def __init__(self) -> None:
        self.away = False
        self.in_a_row: dict[int, Attempts] = {}
        self.counted: list[int] = []
        self.wait: list[float] = []

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("PostgreSQL", "connection refused")

    async def take(self, bucket: int, spacing: float) -> float:
        self._answer()
        return self.wait.pop(0) if self.wait else 0.0

    async def attempts(self, shard_id: int, shard_count: int) -> Attempts:
        self._answer()
        return self.in_a_row.get(shard_id, Attempts(0, 0.0))

    async def count(self, shard_id: int, shard_count: int) -> None:
        self._answer()
        self.counted.append(shard_id)

    async def stayed_up(self, shard_id: int, shard_count: int) -> None:
        self._answer()
        self.in_a_row.pop(shard_id, None)


class World:
    """A gate with a clock that its waiting moves."""

    def __init__(self, said: StartLimit) -> None:
        self.now = 1000.0
        self.rows = Rows()
        self.said = said
        self.why: list[str] = []
        self.gate = IdentifyGate(self.rows, said, self._ask, sleep=self._sleep, monotonic=lambda: self.now)

    async def _ask(self) -> StartLimit:
        if self.rows.away:
            raise DependencyUnavailable("Discord", "OSError")
        return self.said

    async def _sleep(self, seconds: float) -> None:
        self.why.extend(self.gate.waiting.values())
        self.now += seconds
        self.rows.in_a_row = {
            shard: Attempts(known.in_a_row, known.seconds_ago + seconds)
            for shard, known in self.rows.in_a_row.items()
        }
        await asyncio.sleep(0)

    async def identify(self, shard_id: int) -> float:
        """Identify, and return when."""
        async with self.gate.turn(shard_id):
            await self.gate.take(shard_id)
        return self.now


async def test_shards_of_one_bucket_are_spaced_and_others_are_not() -> None:
    world = World(limit(1000, buckets=2))
    moments = [await world.identify(shard_id) for shard_id in (0, 1, 2)]
    assert moments == [1000.0, 1000.0, 1000.0 + SPACING]
    assert world.rows.counted == [0, 1, 2]


async def test_another_process_s_turn_is_waited_for() -> None:
    world = World(limit(1000))
    world.rows.wait = [3.0, 1.5]
    assert await world.identify(0) == 1004.5


async def test_without_postgresql_the_spacing_is_this_process_s_own() -> None:
    world = World(limit(1000))
    world.rows.away = True
    assert [await world.identify(0), await world.identify(1)] == [1000.0, 1000.0 + SPACING]


async def test_what_other_processes_tried_in_vain_counts_and_is_told() -> None:
    world = World(limit(40))
    world.rows.in_a_row[0] = Attempts(7, 100.0)
    assert await world.identify(0) == pytest.approx(1000 + DAY / 40 - 100)
    assert "7 times in a row its session did not stay up, and 40 of 1000 starts are left" in world.why[0]
    assert world.gate.waiting == {}


async def test_a_shard_s_first_start_goes_at_once_also_from_the_reserve() -> None:
    world = World(limit(3))
    assert await world.identify(0) == 1000.0


async def test_near_the_end_of_the_budget_not_knowing_counts_as_a_crash_loop() -> None:
    world = World(limit(10))
    world.rows.away = True
    assert await world.identify(0) == pytest.approx(1000 + DAY / 10)


async def test_an_empty_budget_is_waited_for_however_long_ago_the_last_start_was() -> None:
    world = World(limit(0, reset_after=3600.0))
    world.rows.in_a_row[0] = Attempts(7, 100_000.0)
    waiting = asyncio.create_task(world.identify(0))
    while world.now < 1000.0 + 3570:
        await asyncio.sleep(0)
        assert not waiting.done()
        world.said = limit(0, reset_after=4600.0 - world.now)
    world.said = limit(1000)
    assert await waiting >= 4570.0


async def test_a_session_that_stayed_up_makes_good() -> None:
    world = World(limit(40))
    await world.identify(0)
    await world.gate.stayed_up(0)
    assert await world.identify(0) == 1000 + SPACING
