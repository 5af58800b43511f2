"""The newest events of a sandbox with an account, looked at again and again, also over a kill of NATS."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable, DoesNotFit
from sandbox_core.workbench import recent as module
from sandbox_core.workbench.filters import Filter
from sandbox_core.workbench.recent import Recent, events_by_number
from tests.conftest import revive

from .stage import Stage

ONLY = Filter(types=frozenset({"MESSAGE_CREATE"}))


def contents(recent: Recent) -> list[str]:
    return [str(event.data["content"]) for event in recent.events]


async def talk(stage: Stage, *words: str) -> None:
    for word in words:
        stage.sim.message(stage.guilds[0], content=word)
    await stage.published()


async def test_each_look_goes_on_where_the_last_one_ended(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    place = await stage.core.places.of(mine.id, credentials=mine.generation)
    recent = Recent(place, ONLY, 3)
    await recent.look()
    assert (contents(recent), recent.missed, recent.remade) == ([], 0, False)
    await talk(stage, "one", "two")
    await recent.look()
    assert contents(recent) == ["one", "two"]
    await talk(stage, "three", "four")
    await recent.look()
    await recent.look()
    assert (contents(recent), recent.missed) == (["two", "three", "four"], 0)
    late = Recent(place, ONLY, 3)
    await late.look()
    assert late.events == recent.events
    # Its worker has a consumer for every look, and none stays.
    async with asyncio.timeout(20):
        while (await place.js.stream_info(place.stream)).state.consumer_count:
            await asyncio.sleep(0.02)


async def test_what_was_removed_or_came_too_fast_is_counted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    place = await stage.core.places.of(mine.id, credentials=mine.generation)
    await talk(stage, "one")
    recent = Recent(place, Filter(), 50)
    await recent.look()
    await talk(stage, *(f"word {number}" for number in range(9)))
    await place.js.purge_stream(place.stream, keep=5)
    await recent.look()
    assert recent.missed == 4
    assert contents(recent) == ["one", *(f"word {number}" for number in range(4, 9))]
    await talk(stage, *(f"flood {number}" for number in range(9)))
    monkeypatch.setattr(module, "_MOST_READ", 2)
    await recent.look()
    assert recent.missed == 4 + 7
    assert contents(recent)[-3:] == ["word 8", "flood 7", "flood 8"]


async def test_a_killed_nats_is_waited_out_and_its_new_stream_is_said(
    stage: Stage, closed: EmbeddedServers
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    place = await stage.core.places.of(mine.id, credentials=mine.generation)
    await talk(stage, "before")
    recent = Recent(place, ONLY, 5)
    await recent.look()
    (before,) = recent.events
    (same,) = await events_by_number(place, recent.birth, [before.id])
    assert same == before
    old = recent.birth
    await closed.tenant_nats.kill()
    try:
        with pytest.raises(DependencyUnavailable):
            await recent.look()
        assert contents(recent) == ["before"]
    finally:
        await revive(closed.tenant_nats)
    await talk(stage, "after")
    async with asyncio.timeout(30):
        while contents(recent) != ["after"]:
            try:
                await recent.look()
            except DependencyUnavailable:
                await asyncio.sleep(0.05)
    assert recent.remade
    # Its numbers begin anew, and name other events.
    with pytest.raises(DoesNotFit, match="it is not there any more"):
        await events_by_number(place, old, [before.id])
    with pytest.raises(DoesNotFit, match="it is not there any more"):
        await events_by_number(place, recent.birth, [recent.events[0].id, 999])
