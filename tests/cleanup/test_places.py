"""Removals that take long keep nobody else from being removed, and many removals are spread."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_core.cleanup import passes
from sandbox_core.cleanup.passes import Places
from sandbox_core.cleanup.provider import AT_MOST, AT_ONCE
from sandbox_core.models import Actor, Sandbox, SandboxStatus

from .conftest import Yard


async def _until_destroyed(yard: Yard, those: list[Sandbox]) -> None:
    async with asyncio.timeout(60):
        while {(await yard.row(each)).status for each in those} != {SandboxStatus.DESTROYED}:
            await asyncio.sleep(0.01)


async def _destroyed(yard: Yard, those: list[Sandbox]) -> int:
    return sum([(await yard.row(each)).status is SandboxStatus.DESTROYED for each in those])


async def test_as_many_slow_removals_as_there_are_places_hold_nobody_up(
    yard: Yard, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_core.cleanup.passes.LOOK_AGAIN", 0.01)
    slow = [await yard.sandbox(alice, f"slow-{number}", ttl="1h") for number in range(AT_ONCE)]
    quick = [await yard.sandbox(alice, f"quick-{number}", ttl="2h") for number in range(6)]
    go_on = asyncio.Event()
    yard.redis_part.hanging = {each.id: go_on for each in slow}
    yard.clock.forward(hours=2)
    cleanup = yard.another_cleanup(slow_after=0.05)
    turn = asyncio.create_task(cleanup.cleanup_expired())
    try:
        await _until_destroyed(yard, quick)
        assert not turn.done()
        assert {(await yard.row(each)).status for each in slow} == {SandboxStatus.DESTROYING}
    finally:
        go_on.set()
    report = await turn
    assert {each.id for each in report.destroyed} == {each.id for each in (*slow, *quick)}
    assert report.failed == ()
    for each in slow:
        assert await yard.left_of(each) == []


async def test_a_second_pass_waits_for_a_place(yard: Yard, alice: Actor) -> None:
    slow = [await yard.sandbox(alice, f"slow-{number}", ttl="1h") for number in range(AT_ONCE)]
    go_on = asyncio.Event()
    yard.redis_part.hanging = {each.id: go_on for each in slow}
    yard.clock.forward(hours=1)
    first = asyncio.create_task(yard.cleanup.cleanup_expired())
    async with asyncio.timeout(60):
        while len(yard.redis_part.dropped) < AT_ONCE:
            await asyncio.sleep(0.01)
    second = asyncio.create_task(yard.cleanup.cleanup_expired())
    done, _ = await asyncio.wait({second}, timeout=0.2)
    assert not done
    go_on.set()
    assert len((await first).destroyed) == AT_ONCE
    assert (await second).failed == ()


async def test_slow_ones_are_bounded_too() -> None:
    places = Places(at_once=2, at_most=3, slow_after=0)
    assert AT_MOST > AT_ONCE
    held, go_on = 0, asyncio.Event()

    async def hold() -> None:
        nonlocal held
        async with places.place():
            held += 1
            await go_on.wait()

    holders = [asyncio.create_task(hold()) for _ in range(5)]
    async with asyncio.timeout(60):
        while held < 3:
            await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (held, places.free) == (3, 0)
    waiting = asyncio.create_task(places.room())
    holders[0].cancel()
    async with asyncio.timeout(60):
        while held < 4:
            await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*holders, return_exceptions=True)
    await waiting
    assert (held, places.free) == (5, 2)


async def test_many_begin_one_after_another_over_the_time_there_is(
    yard: Yard, alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = 0.0, 0

    def clock() -> float:
        nonlocal asked
        asked += 1
        return now

    monkeypatch.setattr(passes, "_now", clock)
    monkeypatch.setattr(passes, "LOOK_AGAIN", 0.01)
    those = [await yard.sandbox(alice, f"sandbox-{number}", ttl="1h") for number in range(3)]
    yard.clock.forward(hours=1)
    turn = asyncio.create_task(yard.cleanup.cleanup_expired())
    for begun in (1, 2):
        async with asyncio.timeout(60):
            while await _destroyed(yard, those) < begun:
                await asyncio.sleep(0.01)
            seen = asked
            while asked < seen + 10:
                await asyncio.sleep(0.01)
        assert await _destroyed(yard, those) == begun
        now += 0.12
    assert {each.id for each in (await turn).destroyed} == {each.id for each in those}
