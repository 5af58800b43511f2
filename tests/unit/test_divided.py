"""The sandboxes' publisher while nobody can say where a sandbox's events belong: PostgreSQL is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats import divided
from sandbox_core.nats.divided import DividedPublisher
from sandbox_core.nats.publication import Publication
from sandbox_core.nats.publisher import AckPublisher
from sandbox_core.nats.wire import Label
from tests.e2e.harness import eventually

OWN, HERE, UNKNOWN = "own", "here", "unknown"


class Places:
    """PostgreSQL's rows of accounts, and what of them was read; `away` while it does not answer."""

    def __init__(self) -> None:
        self.rows = {OWN: True, HERE: False, UNKNOWN: True}
        self.known = {OWN: True, HERE: False}
        self.away = True
        self.asked = 0

    def has(self, sandbox_id: str) -> bool | None:
        return self.known.get(sandbox_id)

    async def look(self) -> None:
        self.asked += 1
        if self.away:
            raise DependencyUnavailable("PostgreSQL", "connection refused", "127.0.0.1:1")
        self.known = dict(self.rows)


class Taker:
    """An `AckPublisher` that acknowledges nothing."""

    def __init__(self) -> None:
        self.awaited: dict[int, Publication] = {}
        self.started = False

    async def start(self) -> None:
        self.started = True

    def submit(self, publication: Publication) -> None:
        publication.number = len(self.awaited) + 1
        self.awaited[publication.number] = publication

    def in_flight(self) -> list[Publication]:
        return list(self.awaited.values())

    def withdraw(self, publication: Publication) -> None:
        del self.awaited[publication.number]


class Divided:
    def __init__(self) -> None:
        self.places, self.own, self.here = Places(), Taker(), Taker()
        self.publisher = DividedPublisher(
            self.places, cast("AckPublisher", self.own), cast("AckPublisher", self.here)
        )

    def submit(self, sandbox_id: str, number: int = 0) -> Publication:
        label = Label(f"sandbox.{sandbox_id}.events.X", {"Sandbox-Id": sandbox_id})
        publication = Publication(label, f"session:0:{number}", b"{}", None)
        self.publisher.submit(publication)
        return publication


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Divided]:
    monkeypatch.setattr(divided, "_ASK_AGAIN_AFTER", 0.01)
    made = Divided()
    yield made
    await made.publisher.close()


async def test_those_whose_place_is_known_do_not_wait(world: Divided) -> None:
    waiting = world.submit(UNKNOWN)
    own, here = world.submit(OWN), world.submit(HERE)
    assert (world.own.in_flight(), world.here.in_flight()) == ([own], [here])
    assert world.publisher.in_flight() == [waiting, own, here]
    await eventually(lambda: world.here.started)
    assert not world.own.started, "whoever opened it starts it"


async def test_the_others_wait_in_their_order_until_it_is_back(world: Divided) -> None:
    waiting = [world.submit(UNKNOWN, number) for number in range(5)]
    await eventually(lambda: world.places.asked >= 3)
    assert (world.own.in_flight(), world.publisher.in_flight()) == ([], waiting)
    # One more, of another sandbox: it is of before accounts, which nobody can know yet.
    world.places.rows["old"] = False
    old = world.submit("old")
    world.places.away = False
    await eventually(lambda: len(world.publisher.in_flight()) == 6 and not world.publisher._waiting)
    assert (world.own.in_flight(), world.here.in_flight()) == (waiting, [old])
    # Nobody is asked any more.
    asked = world.places.asked
    world.submit(UNKNOWN, 6)
    await asyncio.sleep(0.05)
    assert world.places.asked == asked


async def test_one_that_waits_can_be_withdrawn(world: Divided) -> None:
    first, second = world.submit(UNKNOWN, 1), world.submit(UNKNOWN, 2)
    world.publisher.withdraw(first)
    assert world.publisher.in_flight() == [second]
    world.places.away = False
    await eventually(lambda: world.own.in_flight() == [second])
    world.publisher.withdraw(second)
    assert world.publisher.in_flight() == []


async def test_a_withdrawal_takes_the_right_one_of_equal_numbers(world: Divided) -> None:
    own, here = world.submit(OWN), world.submit(HERE)
    assert own.number == here.number
    world.publisher.withdraw(own)
    assert world.publisher.in_flight() == [here]


async def test_a_reading_that_fails_otherwise_is_tried_again(
    world: Divided, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, failures = world.places.look, [ValueError("a row that nobody understands")]

    async def fails_once() -> None:
        if failures:
            raise failures.pop()
        await look()

    monkeypatch.setattr(world.places, "look", fails_once)
    world.places.away = False
    waiting = world.submit(UNKNOWN)
    await eventually(lambda: world.own.in_flight() == [waiting])


async def test_what_waits_at_the_end_is_not_handed_on(world: Divided) -> None:
    world.submit(UNKNOWN)
    await world.publisher.close()
    world.places.away = False
    await asyncio.sleep(0.05)
    assert world.own.in_flight() == []
