"""Servers that sandboxes take and give back: each event is on exactly one side, none lost, in order."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from discord_sim import SimGuild
from sandbox_core.subjects import client_session_key
from sandbox_gateway.tenants import AllBut
from tests.gateway_endpoint.raw import Raw, connected
from tests.gateway_endpoint.stage import ALICE, Process, Stage, until
from tests.gateway_endpoint.test_switches import check, flowing, switching

END = "the end"


def messages(found: list[dict[str, Any]], known: set[str]) -> list[str]:
    """The messages' ids without those of the ends; see `check`."""
    ends = {each["d"]["id"] for each in found if each["d"].get("content") == END}
    return [each for each in check(found, known) if each not in ends]


def sent(stage: Stage, *guilds: SimGuild) -> list[str]:
    """The ids of all messages that Discord sent of these servers, in order."""
    wanted = {guild.id for guild in guilds}
    found = [
        json.loads(frame.raw)["d"]
        for frame in stage.sim.sent
        if frame.type == "MESSAGE_CREATE" and frame.guild_id in wanted
    ]
    return [each["id"] for each in found if each["content"] != END]


def check_sides(stage: Stage, ours: list[str], theirs: list[str]) -> None:
    """Every event is on one side, once, and each side has its own in Discord's order."""
    everything = sent(stage, *stage.guilds)
    assert len(set(ours) | set(theirs)) == len(ours) + len(theirs) == len(everything)
    place = {message: number for number, message in enumerate(everything)}
    by_guild = {message: guild.id for guild in stage.guilds for message in sent(stage, guild)}
    for side in (ours, theirs):
        for guild in stage.guilds:
            of_guild = [place[message] for message in side if by_guild[message] == guild.id]
            assert of_guild == sorted(of_guild)


async def test_connected_clients_of_both_sides_see_every_switch_exactly(
    stage: Stage, process: Process, token: str
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    stop = asyncio.Event()
    async with connected(process) as production, connected(process) as sandbox:
        begun = await production.identify(token)
        await sandbox.identify(stage.token(mine))
        known = {each["d"]["id"] for each in begun[1:]}
        flow = asyncio.create_task(flowing(stage, stop))
        reading = [asyncio.create_task(each.until_content(END)) for each in (production, sandbox)]
        await switching(stage, rounds=4, process=process)
        stop.set()
        await flow
        # One server's events may come before those of another that was held for a switch.
        await stage.published()
        stage.sim.message(stage.guilds[0], content=END)
        stage.sim.message(stage.guilds[4], content=END)
        ours, theirs = await asyncio.gather(*reading)
        seen = messages(ours, known)
        check_sides(stage, seen, messages(theirs, {str(stage.guilds[0].id)}))
        told = [each["t"] for each in ours if each["t"].startswith("GUILD_")]
        assert told.count("GUILD_CREATE") == told.count("GUILD_DELETE") == 8
        assert sent(stage, stage.guilds[0])[0] not in seen


async def test_a_client_that_is_cut_again_and_again_loses_nothing(
    stage: Stage, process: Process, token: str
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    other = await stage.start()
    async with connected(process) as raw:
        begun = await raw.identify(token)
    known = {each["d"]["id"] for each in begun[1:]}
    session_id, sequence = raw.session_id, raw.sequence or 0
    stop = asyncio.Event()
    async with connected(other) as sandbox:
        await sandbox.identify(stage.token(mine))
        reading = asyncio.create_task(sandbox.until_content(END))
        flow = asyncio.create_task(flowing(stage, stop))
        switches = asyncio.create_task(switching(stage, rounds=3))
        found: list[dict[str, Any]] = []
        cuts = 0
        while not (stop.is_set() and _ended(found) and _known(found, known) == known):
            async with connected((process, other)[cuts % 2]) as again:
                await again.resume(token, session_id, sequence)
                # Once all was sent the rest is read in one turn, however much it is.
                found += await _some(again, 100_000 if stop.is_set() else 200)
                sequence = again.sequence or sequence
            cuts += 1
            if switches.done() and not stop.is_set():
                stop.set()
                await flow
                await stage.published()
                stage.sim.message(stage.guilds[0], content=END)
                stage.sim.message(stage.guilds[4], content=END)
        await switches
        assert cuts > 2
        ours = [each["d"] for each in found if each["t"] == "MESSAGE_CREATE" and each["d"]["content"] != END]
        theirs = messages(await reading, {str(stage.guilds[0].id)})
        check_sides(stage, [each["id"] for each in ours], theirs)


async def test_what_comes_back_while_the_client_is_away_is_told_after_the_missed_events(
    stage: Stage, process: Process, token: str
) -> None:
    taken, kept = stage.guilds[:2]
    await stage.sandbox("mine", taken)
    async with connected(process) as raw:
        await raw.identify(token)
    stage.sim.message(kept, content="missed")
    await stage.unregister(taken)
    await stage.register("mine", kept)
    await stage.published()
    async with connected(process) as again:
        await again.resume(token, raw.session_id, raw.sequence or 0)
        found = await again.until_event("RESUMED")
        assert [each["t"] for each in found] == ["MESSAGE_CREATE", "RESUMED"]
        told = [await again.receive(), await again.receive()]
        assert {(each["t"], each["d"]["id"], each["d"]["unavailable"]) for each in told} == {
            ("GUILD_CREATE", str(taken.id), False),
            ("GUILD_DELETE", str(kept.id), True),
        }


async def test_what_the_client_was_told_last_is_told_as_it_is_now(
    stage: Stage, process: Process, token: str
) -> None:
    """Of a server of which it was told at its last number nobody knows whether that arrived."""
    guild = stage.guilds[0]
    await stage.sandbox("mine")
    async with connected(process) as raw:
        await raw.identify(token)
        await stage.register("mine", guild)
        assert (await raw.until_event("GUILD_DELETE"))[-1]["d"]["id"] == str(guild.id)
    session_id, sequence = raw.session_id, raw.sequence or 0
    await stage.unregister(guild)
    for present in (True, False, True):
        # Twice, as the first connection may not have been saved.
        for _ in range(2):
            async with connected(process) as again:
                await again.resume(token, session_id, sequence)
                found = (await again.until(lambda each: each["t"] in {"GUILD_CREATE", "GUILD_DELETE"}))[-1]
                assert (found["d"]["id"], found["d"]["unavailable"]) == (str(guild.id), not present)
                assert found["s"] == sequence
        await (stage.register("mine", guild) if present else stage.unregister(guild))


async def test_a_connection_that_was_left_saves_nothing_more(
    stage: Stage, process: Process, token: str
) -> None:
    async with connected(process) as raw:
        await raw.identify(token)
        (older,) = process.endpoint.sessions
        other = await stage.start()
        async with connected(other) as again:
            await again.resume(token, raw.session_id, raw.sequence or 0)
            await again.until_event("RESUMED")
            await process.endpoint.sessions.save([older])
            assert await raw.close_code() == 4000
            (newer,) = other.endpoint.sessions
            key = client_session_key(older.identity.sandbox_id, older.identity.number)
            assert str(await stage.core.redis.get(key)).startswith(newer.holder)


async def test_a_server_comes_back_when_its_sandbox_ends(stage: Stage, process: Process, token: str) -> None:
    guild = stage.guilds[0]
    await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(token)
        stage.sim.message(guild, content="the sandbox's")
        await stage.published()
        await stage.core.manager.destroy(ALICE, "mine")
        stage.sim.message(guild, content="production's")
        found = await raw.until_content("production's")
        assert [each["t"] for each in found] == ["GUILD_CREATE", "MESSAGE_CREATE"]
    await until(lambda: not len(process.endpoint.sessions))


def test_every_server_but_some() -> None:
    before, now = AllBut(frozenset({"1", "2"})), AllBut(frozenset({"2", "3"}))
    assert "1" not in before
    assert "3" in before
    assert now - before == {"1"}
    assert before - now == {"3"}
    assert not hasattr(before, "__iter__")


def _known(found: list[dict[str, Any]], first: set[str]) -> set[str]:
    present = set(first)
    for payload in found:
        if payload["t"] == "GUILD_CREATE":
            present.add(payload["d"]["id"])
        elif payload["t"] == "GUILD_DELETE":
            present.discard(payload["d"]["id"])
    return present


def _ended(found: list[dict[str, Any]]) -> bool:
    return any(each["t"] == "MESSAGE_CREATE" and each["d"]["content"] == END for each in found)


async def _some(raw: Raw, count: int) -> list[dict[str, Any]]:
    """The next payloads, as many, or what comes before a pause."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        try:
            found.append(await raw.receive(2.0))
        except TimeoutError:
            break
    return [each for each in found if each["op"] == 0]
