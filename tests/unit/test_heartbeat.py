"""The heartbeat on a clock of its own: when it beats, and when it calls the other side silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sandbox_bot.gateway.heartbeat import Heartbeat

INTERVAL = 40.0


class Time:
    """A clock that moves when told, and wakes those whose time has come."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.now + seconds, woken))
        await woken.wait()

    async def pass_by(self, seconds: float) -> None:
        """Let time pass, and everybody who wakes do what they want."""
        self.now += seconds
        for due, woken in self._sleepers:
            if due <= self.now:
                woken.set()
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].is_set()]
        for _ in range(5):
            await asyncio.sleep(0)


class Side:
    """What the heartbeat did."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.beats: list[float] = []
        self.silent_at: float | None = None
        self.heartbeat = Heartbeat(
            INTERVAL,
            self._beat,
            self._silent,
            sleep=time.sleep,
            monotonic=lambda: time.now,
            fraction=lambda: 0.25,
        )

    async def _beat(self) -> None:
        self.beats.append(self.time.now)

    async def _silent(self) -> None:
        self.silent_at = self.time.now


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    """A heartbeat that has begun."""
    side = Side(Time())
    side.heartbeat.start()
    await side.time.pass_by(0)
    yield side
    side.heartbeat.stop()
    await side.time.pass_by(0)


async def test_the_first_beat_comes_after_a_fraction_then_one_each_interval(side: Side) -> None:
    assert side.beats == []
    await side.time.pass_by(10)
    for _ in range(3):
        side.heartbeat.ack()
        await side.time.pass_by(INTERVAL)
    assert side.beats == [10, 50, 90, 130]
    assert side.silent_at is None


async def test_silence_is_noticed_when_the_next_beat_is_due(side: Side) -> None:
    await side.time.pass_by(10)
    side.heartbeat.ack()
    # From here on nothing is heard: less than two intervals until it is noticed.
    await side.time.pass_by(INTERVAL)
    assert side.silent_at is None
    await side.time.pass_by(INTERVAL)
    assert side.silent_at == 90
    assert side.beats == [10, 50]


async def test_beats_go_on_while_nobody_reads_and_silence_means_nothing(side: Side) -> None:
    await side.time.pass_by(10)
    side.heartbeat.not_reading()
    for _ in range(3):
        await side.time.pass_by(INTERVAL)
    side.heartbeat.reading()
    assert side.beats == [10, 50, 90, 130]
    await side.time.pass_by(INTERVAL)
    assert side.silent_at is None, "the acknowledgement may stand behind what was not read"
    await side.time.pass_by(INTERVAL)
    assert side.silent_at == 210


async def test_the_latency_is_that_of_the_last_beat(side: Side) -> None:
    assert side.heartbeat.latency == float("inf")
    await side.time.pass_by(10)
    await side.time.pass_by(0.5)
    side.heartbeat.ack()
    assert side.heartbeat.latency == 0.5


async def test_it_may_be_stopped_by_what_it_calls(side: Side) -> None:
    async def silent() -> None:
        heartbeat.stop()
        reached.set()

    reached = asyncio.Event()
    heartbeat = Heartbeat(
        INTERVAL,
        side._beat,
        silent,
        sleep=side.time.sleep,
        monotonic=lambda: side.time.now,
        fraction=lambda: 0.0,
    )
    heartbeat.start()
    await side.time.pass_by(0)
    await side.time.pass_by(0)
    await side.time.pass_by(INTERVAL)
    assert reached.is_set()
