"""Recordings: what a sandbox got, kept beyond its life, by whichever process lives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from uuid import uuid4

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core import tasks
from sandbox_core.cleanup.results import Orphan
from sandbox_core.errors import DependencyUnavailable, DoesNotFit, InvalidInput, NotPermitted, SandboxNotFound
from sandbox_core.models import Actor
from sandbox_core.nats.recordings import AnotherWriter, Mark, RecordingStream
from sandbox_core.postgres import connected
from sandbox_core.postgres.recordings import Recording, RecordingStatus
from sandbox_core.workbench.recordings.library import Recordings
from sandbox_core.workbench.recordings.recorder import OF_SANDBOX, Recorder
from sandbox_core.workbench.recordings.writing import OWNERS_LIMIT
from sandbox_core.workbench.scrubbing import without_tokens
from sandbox_core.workbench.seen import SeenEvent
from tests.conftest import revive
from tests.e2e.harness import eventually

from .stage import ALICE, BOB, Stage
from .test_emitted import EMITTABLE, emitted
from .test_replayed import events_of, replayed

OWNER = Actor("1", is_bot_owner=True)
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
async def nothing_left(stage: Stage) -> AsyncIterator[None]:
    """The tests share a database and a server."""
    yield
    library = stage.core.recordings.library
    for each in await library.list(None):
        await library.delete(each)
    for unknown in await library.unknown():
        await library.remove_unknown(unknown)


def library_of(stage: Stage, *, mebibytes: float = 100, days: float = 30) -> Recordings:
    whole = stage.core.recordings.library
    return Recordings(
        stage.core.pool,
        stage.core.manager,
        stream_of(stage),
        whole._places,
        owners_bytes=round(mebibytes * MIB),
        kept_for=timedelta(days=days),
    )


def stream_of(stage: Stage) -> RecordingStream:
    return stage.core.recordings.library._stream


def recorder_of(stage: Stage, process: str = "one", *, mebibytes: float = 100) -> Recorder:
    return Recorder(
        stage.core.pool,
        stream_of(stage),
        stage.core.recordings.library._places,
        process=process,
        owners_bytes=round(mebibytes * MIB),
    )


@asynccontextmanager
async def recording(stage: Stage, process: str = "one", *, mebibytes: float = 100) -> AsyncIterator[Recorder]:
    """A process that records, as the bot's upkeep has it; it is killed at the end."""
    recorder = recorder_of(stage, process, mebibytes=mebibytes)

    async def turns() -> None:
        while True:
            try:
                await recorder.turn()
            except Exception as error:
                # As upkeep: a server is away.
                print(f"turn: {error!r}")
            await asyncio.sleep(0.1)

    task = asyncio.create_task(turns())
    try:
        yield recorder
    finally:
        # A driver may lose a cancellation: this repeats it.
        await tasks.end(task)
        await tasks.end(*(each.task for each in recorder._own.values()))


async def had(stage: Stage, name: str = "mine") -> list[SeenEvent]:
    library = stage.core.recordings.library
    return [each async for each in library.events(await library.get(OWNER, name))]


async def came_to(stage: Stage, name: str, status: RecordingStatus = RecordingStatus.ENDED) -> Recording:
    found: list[Recording] = []

    async def it_has() -> bool:
        found[:] = [await stage.core.recordings.library.get(OWNER, name)]
        return found[0].status is status

    await eventually(it_has, within=60)
    return found[0]


async def has_events(stage: Stage, name: str, many: int) -> None:
    async def it_has() -> bool:
        return (await stage.core.recordings.library.get(OWNER, name)).events >= many

    await eventually(it_has, within=60)


def same(recorded: list[SeenEvent], events: list[SeenEvent]) -> bool:
    return [(each.type, each.guild_id, each.frame) for each in recorded] == [
        (each.type, each.guild_id, without_tokens(each.frame, each.type)) for each in events
    ]


async def test_a_recording_is_byte_for_byte_what_came_and_outlives_its_sandbox(stage: Stage) -> None:
    library = stage.core.recordings.library
    mine = await stage.sandbox("mine", stage.guilds[0])
    other = await stage.sandbox("other", stage.guilds[1])
    await emitted(stage, mine, "MESSAGE_CREATE")
    async with recording(stage):
        started = await library.start(ALICE, "mine", "talk")
        await emitted(stage, mine, *EMITTABLE)
        stopped = await library.stop(ALICE, "mine", "talk")
        await emitted(stage, mine, "MESSAGE_DELETE")
        ended = await came_to(stage, "talk")
        assert stopped.id == started.id == ended.id
        _, *events, _ = await events_of(stage, mine)
        recorded = await had(stage, "talk")
        assert same(recorded, events)
        assert (ended.events, ended.missed, ended.gaps, ended.reason) == (len(EMITTABLE), 0, 0, "")
        assert ended.bytes > 0
        token = next(each.data["token"] for each in events if each.type == "INTERACTION_CREATE")
        lines = [line async for line in library.exported(ended)]
        assert not any(token.encode() in line for line in lines)
        gaps = [(b.stored_at - a.stored_at).total_seconds() for a, b in pairwise(events)]
        at = [json.loads(line)["at"] for line in lines[1:]]
        assert [b - a for a, b in pairwise(at)] == pytest.approx(gaps, abs=1e-5)
        await stage.core.manager.destroy(ALICE, "mine")

    # It is sent into another sandbox, whose server it then happens in.
    await replayed(stage, other, await had(stage, "talk"))
    old, new = (f'"{each.id}"'.encode() for each in stage.guilds[:2])
    again = await events_of(stage, other)
    for before, after in zip(recorded, again, strict=True):
        assert after.frame in {before.frame.replace(old, new), before.frame}
        assert after.guild_id in {str(stage.guilds[1].id), None}

    # What was exported can be imported, and is the same.
    imported = await library.import_(BOB.id, "copy", iter(lines))
    assert (imported.owner, imported.events) == (BOB.id, len(EMITTABLE))
    assert [line async for line in library.exported(await library.get(BOB, "copy"))][1:] == lines[1:]
    for name in ("talk", "copy"):
        await library.delete(await library.get(OWNER, name))
    assert await stream_of(stage).ids() == set()
    assert await library.list(None) == []


async def test_nothing_is_recorded_that_came_after_the_stop(stage: Stage) -> None:
    """Also while the process that records has not heard of it."""
    library = stage.core.recordings.library
    mine = await stage.sandbox("mine", stage.guilds[0])
    await library.start(ALICE, "mine", "short")
    recorder = recorder_of(stage)
    await recorder.turn()
    (own,) = recorder._own.values()
    await emitted(stage, mine, "TYPING_START", count=20)
    stopped = await library.stop(ALICE, "mine", "short")
    await emitted(stage, mine, "TYPING_START", count=20)

    async def has_read_all() -> bool:
        return own._position[1] == stopped.source_position + 40 and not own._waiting

    await eventually(has_read_all, within=60)
    async with asyncio.timeout(60):
        while recorder._own:
            await recorder.turn()
    assert (await library.get(OWNER, "short")).events == 20
    assert same(await had(stage, "short"), (await events_of(stage, mine))[:20])


async def test_the_end_of_the_sandbox_ends_its_recording(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with recording(stage):
        await stage.core.recordings.library.start(ALICE, "mine", "short")
        await emitted(stage, mine, "TYPING_START", count=20)
        await has_events(stage, "short", 20)
        await stage.core.manager.destroy(ALICE, "mine")
        ended = await came_to(stage, "short")
    assert (ended.events, ended.reason) == (20, OF_SANDBOX)
    assert len(await had(stage, "short")) == 20
    await stage.core.recordings.library.delete(ended)


async def test_two_processes_and_their_deaths_neither_lose_nor_double(stage: Stage) -> None:
    library = stage.core.recordings.library
    mine = await stage.sandbox("mine", stage.guilds[0])
    await library.start(ALICE, "mine", "robust")

    async def nobody() -> None:
        # What a dead process had is free after some seconds.
        async with connected(stage.core.pool) as connection:
            await connection.execute("UPDATE recordings SET claimed_until = now() - interval '1 second'")

    many = 0
    for number in range(6):
        async with recording(stage, f"process-{number}"), recording(stage, f"rival-{number}"):
            await nobody()
            await emitted(stage, mine, "TYPING_START", count=150)
            many += 150
            if number % 2:
                # Both take it in turns.
                await nobody()
                await emitted(stage, mine, "TYPING_START", count=50)
                many += 50
        # Both are killed in the middle of it.
    async with recording(stage, "last"):
        await nobody()
        await library.stop(ALICE, "mine", "robust")
        ended = await came_to(stage, "robust")
    events = await events_of(stage, mine)
    assert (len(events), ended.events, ended.missed, ended.gaps) == (many, many, 0, 0)
    assert same(await had(stage, "robust"), events)
    await library.delete(ended)


async def test_kills_of_both_nats_servers(stage: Stage, closed: EmbeddedServers) -> None:
    library = stage.core.recordings.library
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with recording(stage):
        await library.start(ALICE, "mine", "killed")
        await emitted(stage, mine, "TYPING_START", count=100)
        await closed.nats.kill()
        await emitted(stage, mine, "TYPING_START", count=100)
        await revive(closed.nats)
        await has_events(stage, "killed", 200)
        first = await events_of(stage, mine)
        assert same(await had(stage, "killed"), first)
        # The sandbox's own stream is in memory.
        await closed.tenant_nats.kill()
        await revive(closed.tenant_nats)

        stage.sim.message(stage.guilds[0], content="after")
        await has_events(stage, "killed", 201)
        await library.stop(ALICE, "mine", "killed")
        ended = await came_to(stage, "killed")
    second = await events_of(stage, mine)
    assert same(await had(stage, "killed"), first + second)
    assert (ended.events, ended.gaps) == (200 + len(second), 1)
    await library.delete(ended)


async def test_what_comes_again_after_both_were_lost_is_not_doubled(
    stage: Stage, closed: EmbeddedServers
) -> None:
    library = stage.core.recordings.library
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with recording(stage):
        await library.start(ALICE, "mine", "twice")
        await emitted(stage, mine, "TYPING_START", count=3)
        await has_events(stage, "twice", 3)
    first = await events_of(stage, mine)
    # The process that records and the sandbox's stream are gone at the same time.
    await closed.tenant_nats.restart()
    stage.sim.message(stage.guilds[0], content="after")

    async def stored() -> bool:
        try:
            return bool(await events_of(stage, mine))
        except DependencyUnavailable:
            return False

    await eventually(stored, within=60)
    stream = await stage.core.writing.stream(mine.id)
    for each in (*first[1:], replace(first[0], headers={**first[0].headers, "Nats-Msg-Id": "new"})):
        await stream.write(each.type, each.frame, each.headers)
    for _ in range(2):
        async with recording(stage), connected(stage.core.pool) as connection:
            await connection.execute("UPDATE recordings SET claimed_until = NULL")
            await has_events(stage, "twice", 5)
    async with recording(stage):
        await library.stop(ALICE, "mine", "twice")
        ended = await came_to(stage, "twice")
    second = await events_of(stage, mine)
    assert len(second) == 4
    assert same(await had(stage, "twice"), [*first, second[0], second[3]])
    assert (ended.events, ended.missed, ended.gaps) == (5, 0, 1)


async def test_what_the_stream_dropped_before_is_counted(stage: Stage) -> None:
    library = stage.core.recordings.library
    mine = await stage.sandbox("mine", stage.guilds[0])
    await library.start(ALICE, "mine", "late")
    await emitted(stage, mine, "TYPING_START", count=30)
    place = await stage.core.places.of(mine.id, credentials=mine.generation)
    await place.js.purge_stream(place.stream, seq=21)
    async with recording(stage):
        await has_events(stage, "late", 10)
        await library.stop(ALICE, "mine", "late")
        ended = await came_to(stage, "late")
    assert (ended.events, ended.missed, ended.gaps) == (10, 20, 0)
    assert same(await had(stage, "late"), await events_of(stage, mine))
    await library.delete(ended)


async def test_the_owners_limit_ends_a_recording(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    small = library_of(stage, mebibytes=0.004)
    async with recording(stage, mebibytes=0.004):
        await small.start(ALICE, "mine", "full")
        await emitted(stage, mine, "TYPING_START", count=3)
        await has_events(stage, "full", 3)
        for _ in range(8):
            await emitted(stage, mine, *EMITTABLE[:20])
        ended = await came_to(stage, "full")
    assert (ended.reason, ended.events >= 3) == (OWNERS_LIMIT, True)
    assert ended.bytes <= 0.004 * MIB
    assert same(await had(stage, "full"), (await events_of(stage, mine))[: ended.events])
    lines = [line async for line in small.exported(ended)]
    with pytest.raises(DoesNotFit, match="too large"):
        await library_of(stage, mebibytes=0.0001).import_(BOB.id, "more", iter(lines))
    assert [each.name for each in await small.list(None)] == ["full"]
    assert await stream_of(stage).ids() == {ended.id}
    with pytest.raises(DoesNotFit, match="is the most"):
        await library_of(stage, mebibytes=0.0001).start(ALICE, "mine", "more")


async def test_several_at_once_keep_to_the_owners_limits(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"recording": 1, "name": "x", "began": "2026-01-01T00:00:00+00:00"}
    lines = [json.dumps(about).encode()]
    for number in range(1200):
        frame = {"t": "MESSAGE_CREATE", "s": number, "op": 0, "d": {"content": uuid4().hex}}
        event = {"at": 0, "type": "MESSAGE_CREATE", "guild_id": None, "headers": {}, "frame": frame}
        lines.append(json.dumps(event).encode())
    one = await library_of(stage).import_(BOB.id, "alone", iter(lines))
    assert (one.events, one.claimed) == (1200, False)
    small = library_of(stage, mebibytes=2.5 * one.bytes / MIB)
    many = [small.import_(BOB.id, f"many-{number}", iter(lines)) for number in range(4)]
    await asyncio.gather(*many, return_exceptions=True)
    kept = await small.list(None)
    assert sum(each.bytes for each in kept) <= 2.5 * one.bytes
    assert {each.id for each in kept} == await stream_of(stage).ids()
    monkeypatch.setattr("sandbox_core.workbench.recordings.library.MOST_PER_OWNER", 3)
    more = [library_of(stage).import_(BOB.id, f"more-{each}", iter(lines[:1])) for each in range(8)]
    await asyncio.gather(*more, return_exceptions=True)
    assert len(await small.list(None)) == 3


async def test_a_part_has_one_writer(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    stream = stream_of(stage)
    await stream.ensure()
    first = await stream.append(mine.id, Mark(position=3, events=2), b"x")
    with pytest.raises(AnotherWriter):
        await stream.append(mine.id, Mark(position=4), b"y")
    assert await stream.last(mine.id) == first
    # Nobody knows it: it is found, and removed only when somebody asks for that.
    library = stage.core.recordings.library
    assert await library.unknown() == {mine.id}
    await library.tidy()
    assert await stream.ids() == {mine.id}
    report = await stage.core.cleanup.find_orphaned_resources()
    assert Orphan("recordings", str(mine.id), f"recording {mine.id}", known=False) in report.orphans
    await stage.core.cleanup.cleanup_orphaned_resources()
    assert await stream.ids() == {mine.id}
    await stage.core.cleanup.cleanup_orphaned_resources(unknown=True)
    assert await stream.ids() == set()


async def test_what_is_old_goes(stage: Stage) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    library = stage.core.recordings.library
    async with recording(stage):
        for name in ("old", "new"):
            await library.start(ALICE, "mine", name)
            await emitted(stage, mine, "TYPING_START")
            await has_events(stage, name, 1)
            await library.stop(ALICE, "mine", name)
            await came_to(stage, name)
    async with connected(stage.core.pool) as connection:
        await connection.execute(
            "UPDATE recordings SET ended_at = now() - interval '31 days' WHERE name = 'old'"
        )
    await library.tidy()
    (left,) = await library.list(None)
    assert left.name == "new"
    assert await stream_of(stage).ids() == {left.id}
    await library.delete(left)


async def test_what_is_refused_changes_nothing(stage: Stage) -> None:
    library = stage.core.recordings.library
    await stage.sandbox("mine", stage.guilds[0])
    await stage.sandbox("bobs", stage.guilds[1], owner=BOB)
    await library.start(ALICE, "mine", "taken")
    for wrong, error in (
        (library.start(ALICE, "nobody", "new"), SandboxNotFound),
        (library.start(ALICE, "bobs", "new"), NotPermitted),
        (library.start(ALICE, "mine", "No Name"), InvalidInput),
        (library.start(BOB, "bobs", "taken"), DoesNotFit),
        (library.stop(BOB, "bobs", "taken"), NotPermitted),
        (library.stop(ALICE, "bobs", "taken"), DoesNotFit),
        (library.get(BOB, "taken"), NotPermitted),
        (library.get(ALICE, "none"), DoesNotFit),
    ):
        with pytest.raises(error):
            await wrong
    (one,) = await library.list(None)
    assert (one.name, one.status) == ("taken", RecordingStatus.RECORDING)
    await library.delete(one)
