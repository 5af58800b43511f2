from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.event_router.lane import Lane
from sandbox_core.event_router.route_questions import RouteQuestions
from sandbox_core.events import Frame
from sandbox_core.manager.teardown import bounded
from sandbox_core.models import DatedRoute
from sandbox_core.nats.late import LateResends
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.wire import Label
from sandbox_core.route_provider.cache_writer import CacheWriter
from sandbox_core.routing import TrustedTable
from sandbox_core.tasks import Cancellations, end


@pytest.fixture(autouse=True)
def _again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox_core.tasks._AGAIN_AFTER", 0.01)


class Deaf:
    """Work that loses its first cancellations, as a driver may."""

    def __init__(self, losing: int, finally_raises: Exception | None = None) -> None:
        self.losing = losing
        self.lost = 0
        self.finally_raises = finally_raises
        self.begun = asyncio.Event()

    async def __call__(self) -> None:
        self.begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.lost == self.losing:
                    if self.finally_raises is not None:
                        raise self.finally_raises from None
                    raise
                self.lost += 1


async def test_tasks_are_cancelled_until_they_end() -> None:
    works = [Deaf(0), Deaf(3), Deaf(1, ZeroDivisionError())]
    tasks = [asyncio.create_task(work()) for work in works]
    await asyncio.gather(*(work.begun.wait() for work in works))
    async with asyncio.timeout(60):
        await end(*tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert [work.lost for work in works] == [0, 3, 1]
    await end(*tasks)
    await end()


async def test_whoever_waits_may_be_cancelled_and_the_tasks_end_all_the_same() -> None:
    work = Deaf(5)
    task = asyncio.create_task(work())
    await work.begun.wait()
    ending = asyncio.create_task(end(task))
    while not work.lost:
        await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert task.cancelled()


async def test_a_step_ends_at_its_limit_although_its_driver_is_deaf() -> None:
    work = Deaf(3)
    with pytest.raises(DependencyUnavailable) as late:
        async with asyncio.timeout(60):
            await bounded("Redis", work(), within=0.01)
    assert late.value.reason == "not done within 0.01 s"
    assert work.lost == 3


async def test_a_step_that_ends_with_its_own_error_keeps_it() -> None:
    with pytest.raises(ZeroDivisionError):
        await bounded("Redis", Deaf(1, ZeroDivisionError())(), within=0.01)
    with pytest.raises(DependencyUnavailable) as away:
        await bounded("NATS", Deaf(0, TimeoutError())(), within=0.01)
    assert away.value.reason == "no answer in time"


async def test_a_cancelled_step_passes_the_cancellation_on() -> None:
    work = Deaf(2)
    step = asyncio.create_task(bounded("Redis", work()))
    await work.begun.wait()
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert work.lost == 2


async def test_only_new_cancellations_count() -> None:
    Cancellations().check()
    reached = asyncio.Event()

    async def work() -> str:
        seen = Cancellations()
        reached.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        Cancellations().check()
        with pytest.raises(asyncio.CancelledError):
            seen.check()
        return "done"

    task = asyncio.create_task(work())
    await reached.wait()
    task.cancel()
    assert await task == "done"


class AwayAndDeaf:
    """A server that is away, behind a driver that loses the first cancellation."""

    trusted = TrustedTable()

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.lost = 0

    async def _ask(self, *_: object, **__: object) -> Any:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.lost:
                raise
            self.lost += 1
            raise DependencyUnavailable("Redis", "no answer in time") from None

    put_many = resolve = sequences = _ask


async def test_what_tries_for_ever_ends_although_its_driver_is_deaf() -> None:
    server: Any = AwayAndDeaf()
    writer = CacheWriter(server)
    writer.write_soon({"1": DatedRoute(None, 1.0)})
    await ended(server, writer.close())

    server = AwayAndDeaf()
    questions = RouteQuestions(server, lambda lane, table: None)
    lane = Lane("1")
    lane.tell(Frame(b"", 0, "X", 1, 0.0, "1"), lambda destination: None, None, 0.0)
    questions.ask(lane)
    await ended(server, questions.close())

    server = AwayAndDeaf()
    late = LateResends(server, server, duplicate_window=1.0)
    late.ask(Publication(Label("events.X", {}), "session:0:1", b"", None))
    await ended(server, late.close())


async def ended(server: AwayAndDeaf, closing: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(60):
        await server.asked.wait()
        await closing
    assert server.lost == 1
