"""RESUME: exactly what was missed, in order, at any process; and op 9 where that can't be had."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from functools import partial

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.subjects import SLOT_STREAM, client_session_key, slot_api
from sandbox_gateway.sessions.service import SessionTuning

from .raw import Raw, connected
from .stage import ALICE, BOB, QUICK, Process, Stage, until


def contents(found: list[dict[str, object]]) -> list[str]:
    return [each["d"]["content"] for each in found if each["t"] == "MESSAGE_CREATE"]  # type: ignore[index]


async def test_every_number_can_be_resumed_from(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    token = stage.token(mine)
    async with connected(process) as raw:
        await raw.identify(token)
        for number in range(30):
            stage.sim.emit("TYPING_START", {"guild_id": str(guild.id), "user_id": "1"})
            stage.sim.message(guild, content=f"{number}")
        await raw.until_content("29")
        session_id = raw.session_id
    other = await stage.start()
    for sequence in (2, 3, 17, 40, 61, 62):
        async with connected(other) as raw:
            await raw.resume(token, session_id, sequence)
            found = await raw.until_event("RESUMED")
            assert [each["s"] for each in found[:-1]] == list(range(sequence + 1, 63))
            assert found[-1]["s"] == 62
            assert contents(found) == [f"{number}" for number in range((sequence - 2) // 2, 30)]


async def test_a_beginning_can_be_resumed(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", *stage.guilds)
    token = stage.token(mine)
    async with connected(process) as raw:
        await raw.identify(token)
        stage.sim.message(stage.guilds[0], content="one")
        await raw.until_content("one")
    for sequence in (1, 3, 6):
        async with connected(process) as again:
            await again.resume(token, raw.session_id, sequence)
            found = await again.until_event("RESUMED")
            assert [each["s"] for each in found] == [*range(sequence + 1, 8), 7]
            created = [each["d"]["id"] for each in found if each["t"] == "GUILD_CREATE"]
            assert created == sorted(str(guild.id) for guild in stage.guilds)[sequence - 1 :]


async def test_what_happens_while_nobody_is_connected_comes_before_resumed(
    stage: Stage, process: Process
) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    token = stage.token(mine)
    async with connected(process) as raw:
        await raw.identify(token)
    for number in range(500):
        stage.sim.message(guild, content=f"{number}")
    await stage.published()
    async with connected(process) as again:
        await again.resume(token, raw.session_id, 2)
        for number in range(500, 520):
            stage.sim.message(guild, content=f"{number}")
        found = await again.until_event("RESUMED")
        if "519" not in contents(found):
            found += await again.until_content("519")
        assert contents(found) == [f"{number}" for number in range(520)]


async def test_sessions_that_are_none_are_refused(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    other = await stage.sandbox("other", stage.guilds[1], owner=BOB)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        session_id = raw.session_id
    forged = bytearray(base64.urlsafe_b64decode(session_id))
    forged[0] ^= 1
    for token, wanted in (
        (stage.token(other), session_id),
        (stage.token(mine), "x"),
        (stage.token(mine), base64.urlsafe_b64encode(forged).decode()),
    ):
        async with connected(process) as raw:
            await raw.resume(token, wanted, 2)
            answer = await raw.receive()
            assert (answer["op"], answer["d"]) == (9, False)
            # The same connection can identify.
            await asyncio.sleep(0.02)
            await raw.identify(token)


async def test_a_large_server_is_what_the_client_says(stage: Stage, process: Process) -> None:
    first, second = stage.guilds[:2]
    for guild in (first, second):
        for number in range(60):
            guild.add_member(stage.sim.add_user(f"user-{number}"))
    mine = await stage.sandbox("mine", first)
    async with connected(process) as raw:
        _, created = await raw.identify(stage.token(mine), large_threshold=100)
        assert created["d"]["large"] is False
    async with connected(process) as again:
        await again.resume(stage.token(mine), raw.session_id, raw.sequence or 0)
        await stage.register("mine", second)
        assert (await again.until_event("GUILD_CREATE"))[-1]["d"]["large"] is False
    async with connected(process) as raw:
        _, *created = await raw.identify(stage.token(mine))
        assert [each["d"]["large"] for each in created] == [True, True]


async def test_a_number_that_never_was_is_refused(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
    async with connected(process) as again:
        await again.resume(stage.token(mine), raw.session_id, 1000)
        assert await again.close_code() == 4007


async def test_a_rotation_ends_what_could_be_resumed(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
    rotated = (await stage.core.manager.rotate(ALICE, "mine")).sandbox
    async with connected(process) as again:
        await again.resume(stage.token(rotated), raw.session_id, 2)
        assert (await again.receive())["op"] == 9


async def test_what_the_stream_no_longer_has_is_said(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
    for number in range(10):
        stage.sim.message(guild, content=f"{number}")
    await stage.published()
    place = await slot_of(stage, mine.id)
    js = stage.core.sandbox_nats.client.jetstream(prefix=slot_api(place))
    await js.purge_stream(SLOT_STREAM, keep=5)
    async with connected(process) as again:
        await again.resume(stage.token(mine), raw.session_id, 2)
        assert (await again.receive())["d"] is False
    async with connected(process) as late:
        await stage.core.redis.delete(
            *[key async for key in stage.core.redis.scan_iter("sandbox:gateway:client:*")]
        )
        await late.resume(stage.token(mine), raw.session_id, 2)
        assert (await late.receive())["d"] is False


async def test_a_restarted_stream_is_another_one(
    stage: Stage, process: Process, closed: EmbeddedServers
) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        stage.sim.message(guild, content="before")
        await raw.until_content("before")
        await closed.tenant_nats.restart()
        # Nobody knows what it had: never silently.
        found = await raw.until(lambda payload: payload["op"] == 9)
        assert found[-1]["d"] is False
        await asyncio.sleep(0.02)
        await raw.identify(stage.token(mine))
        stage.sim.message(guild, content="after")
        await raw.until_content("after")


async def test_a_second_connection_takes_a_session_over(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as first, connected(process) as second:
        await first.identify(stage.token(mine))
        ending = asyncio.create_task(first.close_code())
        await second.resume(stage.token(mine), first.session_id, 2)
        await second.until_event("RESUMED")
        assert await ending == 4000
        stage.sim.message(stage.guilds[0], content="goes on")
        await second.until_content("goes on")


async def test_a_planned_end_sends_clients_to_another_process(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        stage.sim.message(guild, content="one")
        await raw.until_content("one")
        other = await stage.start()
        stopping = asyncio.create_task(process.stop())
        stage.processes.remove(process)
        await raw.until(lambda payload: payload["op"] == 7)
        # It still listens: a client that comes now is sent away, too.
        async with connected(process) as early:
            await early.resume(stage.token(mine), raw.session_id, raw.sequence or 0)
            assert (await early.receive())["op"] == 7
        await raw.socket.close(code=4000)
        stage.sim.message(guild, content="two")
        async with connected(other) as again:
            await again.resume(stage.token(mine), raw.session_id, raw.sequence or 0)
            assert contents(await again.until_event("RESUMED")) in (["two"], [])
            stage.sim.message(guild, content="three")
            found = await again.until_content("three")
            assert contents(found) in (["three"], ["two", "three"])
        await stopping


async def test_a_client_that_does_not_read_is_ended_and_can_resume(stage: Stage) -> None:
    tuning = replace(QUICK, sessions=SessionTuning(waiting_events=300))
    process = await stage.start(tuning)
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    count = 3000
    async with connected(process) as raw, connected(process) as quick:
        await raw.identify(stage.token(mine))
        await asyncio.sleep(0.02)
        await quick.identify(stage.token(mine))
        before = len(quick.texts)
        reading = asyncio.create_task(quick.until_content(f"{count - 1}"))
        assert raw.socket._conn is not None
        raw.socket._conn.transport.pause_reading()  # type: ignore[union-attr]
        filler = "x" * 4000
        for number in range(count):
            stage.sim.message(guild, content=f"{number}", embeds=[{"description": filler}])
            if not number % 50:
                # As fast as the other one reads: only the first is slow.
                await until(partial(_has, quick, before + number))
        await until(lambda: len(process.endpoint.sessions) == 1)
        assert len(contents(await reading)) == count
        raw.socket._conn.transport.resume_reading()  # type: ignore[union-attr]
        got = await drained(raw)
    async with connected(process) as again:
        await again.resume(stage.token(mine), raw.session_id, raw.sequence or 0)
        found = await again.until_event("RESUMED")
        assert got + contents(found) == [f"{number}" for number in range(count)]


def _has(raw: Raw, count: int) -> bool:
    return len(raw.texts) >= count


async def drained(raw: Raw) -> list[str]:
    """What is still in the buffers of a connection that was ended."""
    found = []
    try:
        while True:
            found.append(await raw.receive())
    except (ConnectionError, OSError):
        return contents(found)


async def test_marks_in_redis_are_enough_for_another_process(stage: Stage, process: Process) -> None:
    """A session that is older than what its stream keeps goes on from its last mark."""
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        for number in range(20):
            stage.sim.message(guild, content=f"{number}")
        await raw.until_content("19")
        await raw.send(1, raw.sequence)
        key = None
        async for each in stage.core.redis.scan_iter(f"{client_session_key(mine.id, '0')[:-16]}*"):
            key = each
        assert key is not None
        record = ""
        async with asyncio.timeout(10):
            while "[22," not in record:
                record = str(await stage.core.redis.get(key))
                await asyncio.sleep(0.05)
    place = await slot_of(stage, mine.id)
    js = stage.core.sandbox_nats.client.jetstream(prefix=slot_api(place))
    await js.purge_stream(SLOT_STREAM)
    stage.sim.message(guild, content="missed")
    await stage.published()
    other = await stage.start(QUICK)
    async with connected(other) as again:
        await again.resume(stage.token(mine), raw.session_id, 22)
        assert contents(await again.until_event("RESUMED")) == ["missed"]


async def slot_of(stage: Stage, sandbox_id: object) -> int:
    return int(
        await stage.core.pool.fetchval("SELECT slot FROM nats_slots WHERE sandbox_id = $1", sandbox_id)
    )
