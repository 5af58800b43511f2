"""Events that are sent again, as a worker in the sandbox gets them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from sandbox_core.errors import (
    DependencyUnavailable,
    DoesNotFit,
    GuildNotRegistered,
    NotPermitted,
    SandboxNotRunning,
)
from sandbox_core.models import Sandbox
from sandbox_core.workbench.emitting import Stored
from sandbox_core.workbench.filters import Filter
from sandbox_core.workbench.repeating import AT_ONCE, MOST_EVENTS, Replayer, Speed, fitting_guilds
from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.watching import last_events

from .stage import ALICE, BOB, Stage
from .test_emitted import EMITTABLE, emitted, taken, worker


async def events_of(stage: Stage, sandbox: Sandbox) -> list[SeenEvent]:
    place = await stage.core.places.of(sandbox.id, credentials=sandbox.generation)
    events, _ = await last_events(place, Filter(), 5000)
    return events


async def replayed(
    stage: Stage, sandbox: Sandbox, events: Sequence[SeenEvent], *, fresh: bool = False
) -> list[Stored]:
    replayer = Replayer(stage.core.manager, stage.core.writing)
    guilds = fitting_guilds(events, sandbox)
    sending = replayer.replay(sandbox, events, speed=AT_ONCE, fresh=fresh, guilds=guilds)
    return [each async for each in sending]


async def test_every_type_comes_again_byte_for_byte(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    await emitted(stage, mine, *EMITTABLE)
    events = await events_of(stage, mine)
    before = (await stage.core.js.stream_info("EVENTS")).state.messages
    stored = await replayed(stage, mine, events)
    async with worker(stage, mine) as context:
        came = await taken(context, 2 * len(events))
    first, again = came[: len(events)], came[len(events) :]
    assert [each.raw for each in again] == [each.raw for each in first] == [each.frame for each in events]
    assert [each.event.message_id for each in stored] == [each.headers["Nats-Msg-Id"] for each in again]
    assert len({each.headers["Nats-Msg-Id"] for each in came}) == len(came)
    for old, new in zip(first, again, strict=True):
        changes = {"Nats-Msg-Id": new.headers["Nats-Msg-Id"], "Sandbox-Origin": "replayed"}
        assert new.headers["Nats-Msg-Id"].startswith("replay:")
        assert dict(new.headers) == dict(old.headers) | changes
    # Production gets nothing of it.
    assert (await stage.core.js.stream_info("EVENTS")).state.messages == before


async def test_another_sandbox_gets_them_in_its_own_server_and_without_tokens(stage: Stage) -> None:
    old, new = (str(each.id) for each in stage.guilds[:2])
    mine = await stage.sandbox("mine", stage.guilds[0])
    other = await stage.sandbox("other", stage.guilds[1])
    await emitted(stage, mine, "MESSAGE_CREATE", "INTERACTION_CREATE", "GUILD_ROLE_CREATE", "USER_UPDATE")
    events = await events_of(stage, mine)
    await replayed(stage, other, events)
    again = await events_of(stage, other)
    assert [each.guild_id for each in again] == [new, new, new, None]
    assert {each.headers["Sandbox-Id"] for each in again} == {str(other.id)}
    for before, after in zip(events, again, strict=True):
        if before.type != "INTERACTION_CREATE":
            assert after.frame == before.frame.replace(f'"{old}"'.encode(), f'"{new}"'.encode())
    press = again[1]
    token = events[1].data["token"]
    assert len(token) > 20
    assert token.encode() not in press.frame
    assert press.data["id"] == events[1].data["id"]


async def test_fresh_ones_are_of_now_and_belong_together(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    await emitted(stage, mine, "MESSAGE_CREATE", "TYPING_START")
    message, typing = await events_of(stage, mine)
    hour = timedelta(hours=1)
    aged = [replace(each, stored_at=each.stored_at - hour) for each in (message, typing)]
    stored = await replayed(stage, mine, aged, fresh=True)
    new, late = (json.loads(each.event.frame)["d"] for each in stored)
    assert new["id"] != message.data["id"]
    assert abs((int(new["id"]) >> 22) - (int(message.data["id"]) >> 22) - 3_600_000) < 60_000
    assert new["timestamp"][:10] >= message.data["timestamp"][:10]
    assert (new["channel_id"], new["author"]) == (message.data["channel_id"], message.data["author"])
    assert abs(late["timestamp"] - typing.data["timestamp"] - 3600) < 60


async def test_the_gaps_in_time_are_their_own_divided_by_the_speed(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    await emitted(stage, mine, "TYPING_START", count=4)
    events = await events_of(stage, mine)
    begin, gaps = events[0].stored_at, (0, 20, 20, 50)
    events = [
        replace(each, stored_at=begin + timedelta(seconds=g)) for each, g in zip(events, gaps, strict=True)
    ]
    now, slept = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    replayer = Replayer(stage.core.manager, stage.core.writing, monotonic=lambda: now, sleep=sleep)
    done = [each async for each in replayer.replay(mine, events, speed=Speed(10.0))]
    assert len(done) == 4
    assert slept == pytest.approx([2.0, 3.0])


async def test_a_large_frame_is_compressed_as_the_gateway_does_it(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    await emitted(stage, mine, "MESSAGE_CREATE")
    (small,) = await events_of(stage, mine)
    large = replace(small, frame=small.frame[:-1] + b" " * stage.core.sandbox_nats.client.max_payload + b"}")
    await replayed(stage, mine, [large])
    again = (await events_of(stage, mine))[-1]
    assert again.headers["Content-Encoding"] == "gzip"
    assert again.frame == large.frame


async def test_what_is_refused_changes_nothing(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    await stage.sandbox("theirs", stage.guilds[1], owner=BOB)
    await emitted(stage, mine, "MESSAGE_CREATE")
    events = await events_of(stage, mine)
    replayer = Replayer(stage.core.manager, stage.core.writing)
    with pytest.raises(NotPermitted):
        await replayer.sandbox(ALICE, "theirs")
    foreign = replace(events[0], headers={**events[0].headers, "Discord-Guild-Id": str(stage.guilds[1].id)})
    for wrong, error in (([*events, foreign], GuildNotRegistered), (events * (MOST_EVENTS + 1), DoesNotFit)):
        with pytest.raises(error):
            await anext(replayer.replay(mine, wrong, speed=AT_ONCE))
    assert [each.id for each in await events_of(stage, mine)] == [1]
    assert [each async for each in replayer.replay(mine, [])] == []
    await stage.core.manager.destroy(ALICE, "mine")
    with pytest.raises((SandboxNotRunning, DependencyUnavailable)):
        await anext(replayer.replay(replace(mine, expires_at=mine.created_at), events, speed=AT_ONCE))


async def test_the_end_of_a_sandbox_ends_a_replay(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    await emitted(stage, mine, "TYPING_START", count=2)
    events = await events_of(stage, mine)
    replaying = Replayer(stage.core.manager, stage.core.writing).replay(mine, events, speed=AT_ONCE)
    await anext(replaying)
    await stage.core.manager.destroy(ALICE, "mine")
    with pytest.raises(DependencyUnavailable):
        async with asyncio.timeout(30):
            await anext(replaying)
