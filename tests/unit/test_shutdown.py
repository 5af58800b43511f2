"""One limit for the steps of an end, on a clock of the test's own wherever time passes."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from sandbox_core.shutdown import ShutdownBudget

_GUARD = 60.0


class Clock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def forever() -> None:
    await asyncio.Event().wait()


async def nothing() -> None:
    """Ends at once."""


async def test_the_time_runs_from_the_beginning() -> None:
    clock = Clock()
    closing = ShutdownBudget(9.0, monotonic=clock)
    clock.now += 1000
    assert closing.left == 9.0
    closing.begin()
    clock.now += 4
    closing.begin()
    assert closing.left == 5.0
    clock.now += 40
    assert closing.left == 0.0


async def test_the_first_step_begins_it() -> None:
    clock = Clock()
    closing = ShutdownBudget(9.0, monotonic=clock)

    async def takes_long() -> None:
        clock.now += 8

    assert await closing.step("long", takes_long)
    assert closing.left == 1.0


async def test_a_later_step_gets_what_is_left() -> None:
    clock = Clock()
    closing = ShutdownBudget(3600.0, monotonic=clock)

    async def takes_all() -> None:
        clock.now += 3600

    async with asyncio.timeout(_GUARD):
        assert await closing.step("all", takes_all)
        # By its own limit it would be waited for much longer than this test may take.
        assert not await closing.step("hangs", forever, at_most=3000.0)
        # What needs no waiting is done all the same.
        assert await closing.step("last", nothing)


async def test_a_step_has_a_limit_of_its_own() -> None:
    closing = ShutdownBudget(3600.0)
    async with asyncio.timeout(_GUARD):
        assert not await closing.step("hangs", forever, at_most=0.01)
    assert closing.left > 3000


async def test_nobody_waits_for_what_does_not_end_when_cancelled() -> None:
    closing = ShutdownBudget(0.01)
    cut_off, connection_closed, ended = (asyncio.Event() for _ in range(3))

    async def undoes_it_on_a_server_that_hangs() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            cut_off.set()
            await connection_closed.wait()
            ended.set()
            raise

    async with asyncio.timeout(_GUARD):
        assert not await closing.step("undo", undoes_it_on_a_server_that_hangs)
        await cut_off.wait()
        assert not ended.is_set()
        connection_closed.set()
        await closing.over()
    assert ended.is_set()


async def test_what_a_step_raises_is_raised_and_nothing_is_left_to_ask() -> None:
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))

    async def fails() -> None:
        raise ConnectionResetError("gone")

    async def fails_when_cut_off() -> None:
        try:
            await forever()
        finally:
            await fails()

    closing = ShutdownBudget(0.01)
    try:
        with pytest.raises(ConnectionResetError, match="gone"):
            await closing.step("fails", fails)
        assert not await closing.step("late", fails_when_cut_off)
        await closing.over()
        await asyncio.sleep(0)
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert reported == []


async def test_a_cancelled_end_cuts_its_step_off() -> None:
    closing, cut_off, begun = ShutdownBudget(3600.0), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await forever()
        finally:
            cut_off.set()

    async with asyncio.timeout(_GUARD):
        task = asyncio.create_task(closing.step("work", work))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await cut_off.wait()
        await closing.over()
