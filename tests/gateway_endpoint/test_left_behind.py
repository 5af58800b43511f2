"""What the endpoint keeps of a sandbox is gone with the sandbox, whoever was writing at that moment."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import pytest

from sandbox_core.models import Sandbox
from sandbox_core.postgres.pool import connected as pooled
from sandbox_core.subjects import GATEWAY_KEYS, SEEN_TOKEN_KEYS
from sandbox_gateway.guard.seen import RedisSeen

from .raw import connected
from .stage import ALICE, QUICK, Process, Stage


async def left_of(stage: Stage, sandbox: Sandbox) -> list[str]:
    """The control plane's keys about it."""
    found = []
    async for key in stage.core.redis.scan_iter(GATEWAY_KEYS, count=1000):
        value = str(await stage.core.redis.get(key)) if key.startswith(SEEN_TOKEN_KEYS) else ""
        if str(sandbox.id) in key or str(sandbox.id) in value:
            found.append(key.replace(str(sandbox.id), "ID"))
    return sorted(found)


async def call_again_and_again(stage: Stage, process: Process, sandbox: Sandbox) -> None:
    """As a bot does that does not know of its end."""
    headers = {"Authorization": f"Bot {stage.token(sandbox)}"}
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{process.api_url}/guilds/{stage.guilds[0].id}", headers=headers) as answer:
                await answer.read()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("ending", ["destroy", "expire"])
async def test_an_end_leaves_nothing(stage: Stage, process: Process, ending: str) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    other = await stage.sandbox("other", stage.guilds[1])
    second = await stage.start()
    calling = [asyncio.create_task(call_again_and_again(stage, each, mine)) for each in stage.processes]
    try:
        async with connected(process) as raw, connected(second) as again, connected(second) as neighbour:
            await raw.identify(stage.token(mine))
            await neighbour.identify(stage.token(other))
            await asyncio.sleep(0.02)
            await again.identify(stage.token(mine))
            tenant = process.endpoint.tenants.current(mine.id)
            assert tenant is not None
            await RedisSeen(stage.core.redis).note(tenant, "interaction", "1", "token-of-mine")
            async with asyncio.timeout(20):
                while len(kept := await left_of(stage, mine)) < 7:
                    await asyncio.sleep(0.05)
            kinds = {key.split(":")[2] for key in kept}
            assert kinds == {"client", "client-identify", "calls", "sessions", "rest", "seen"}
            closing = [asyncio.create_task(each.close_code()) for each in (raw, again)]
            if ending == "destroy":
                await stage.core.manager.destroy(ALICE, "mine")
            else:
                async with pooled(stage.core.pool) as connection:
                    await connection.execute(
                        "UPDATE sandboxes SET created_at = now() - interval '1 hour', expires_at = $2 "
                        "WHERE id = $1",
                        mine.id,
                        datetime.now(UTC),
                    )
                await stage.core.cleanup.cleanup_expired()
            assert await asyncio.gather(*closing) == [4004, 4004]
            async with asyncio.timeout(30):
                while await left_of(stage, mine):
                    await asyncio.sleep(0.05)
            # Nobody writes any more: neither of what was under way, nor of calls that still come.
            await asyncio.sleep(0.3)
            assert await left_of(stage, mine) == []
            assert await left_of(stage, other) != []
            report = await stage.core.cleanup.find_orphaned_resources()
            assert str(mine.id) not in {each.id for each in report.orphans}
            stage.sim.message(stage.guilds[1], content="goes on")
            await neighbour.until_content("goes on")
    finally:
        for each in calling:
            each.cancel()
        await asyncio.gather(*calling, return_exceptions=True)


async def test_what_a_killed_process_has_left_is_an_orphan_and_goes(stage: Stage, process: Process) -> None:
    """It has written after the bot had taken the sandbox apart, and could not look again."""
    mine = await stage.sandbox("mine", stage.guilds[0])
    tenant = None
    async with asyncio.timeout(20):
        while tenant is None:
            tenant = process.endpoint.tenants.current(mine.id)
            await asyncio.sleep(0.02)
    await process.stop()
    stage.processes.remove(process)
    await stage.core.manager.destroy(ALICE, "mine")
    assert await left_of(stage, mine) == []
    await RedisSeen(stage.core.redis).note(tenant, "webhook", "1", "token-of-mine")
    report = await stage.core.cleanup.find_orphaned_resources()
    assert [(each.store, each.known) for each in report.orphans if each.id == str(mine.id)] == [
        ("Redis", True)
    ]
    await stage.core.cleanup.cleanup_orphaned_resources()
    assert await left_of(stage, mine) == []


async def test_a_client_that_leaves_can_be_resumed_exactly_there(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    traces = stage.core.tenants.traces
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        assert await traces.connected(mine.id) == {str(mine.id): 1}
        assert (await stage.core.manager.health("mine")).clients == 1
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            while await traces.connected():
                await asyncio.sleep(0.02)
    assert await traces.connected(mine.id) == {}
    assert [key.split(":")[2] for key in await left_of(stage, mine)].count("client") == 1
    async with connected(await stage.start()) as again:
        await again.resume(stage.token(mine), raw.session_id, raw.sequence or 0)
        await again.until_event("RESUMED")
        assert await traces.connected() == {str(mine.id): 1}


async def test_a_session_goes_to_who_resumes_it_last(stage: Stage, process: Process) -> None:
    """At another process: the connection that it had ends, as at Discord."""
    mine = await stage.sandbox("mine", stage.guilds[0])
    other = await stage.start()
    async with connected(process) as first, connected(other) as second:
        await first.identify(stage.token(mine))
        closing = asyncio.create_task(first.close_code())
        await second.resume(stage.token(mine), first.session_id, first.sequence or 0)
        await second.until_event("RESUMED")
        assert await closing == 4000
        stage.sim.message(stage.guilds[0], content="to the second")
        await second.until_content("to the second")
        assert await stage.core.tenants.traces.connected() == {str(mine.id): 1}
        async with connected(process) as third:
            closing = asyncio.create_task(second.close_code())
            await third.resume(stage.token(mine), first.session_id, second.sequence or 0)
            await third.until_event("RESUMED")
            assert await closing == 4000
            stage.sim.message(stage.guilds[0], content="to the third")
            await third.until_content("to the third")
            # What the others knew does not come back.
            await asyncio.sleep(1.2)
            stage.sim.message(stage.guilds[0], content="still")
            await third.until_content("still")


async def test_an_identify_storm_is_one_for_all_processes(stage: Stage, process: Process) -> None:

    slow = replace(QUICK, identify_every=30.0)
    processes = [await stage.start(slow) for _ in range(3)]
    mine = await stage.sandbox("mine", stage.guilds[0])
    token = stage.token(mine)

    async def identify(number: int) -> str:
        async with connected(processes[number % 3]) as raw:
            await raw.send(2, {"token": token, "intents": 1, "properties": {}})
            answer = await raw.receive()
            assert answer["t"] == "READY" or (answer["op"], answer["d"]) == (9, False)
            return "READY" if answer["t"] == "READY" else "later"

    answers = await asyncio.gather(*(identify(number) for number in range(60)))
    assert answers.count("READY") == 1
    counted = [
        each.endpoint.metrics.registry.get_sample_value(
            "sandbox_client_identifies_total", {"result": "too_soon"}
        )
        for each in processes
    ]
    assert sum(each or 0 for each in counted) == 59
