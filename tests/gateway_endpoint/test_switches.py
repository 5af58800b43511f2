"""Servers that come and go while events flow: every event once, in order, between its server's two ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sandbox_core.models import Sandbox
from sandbox_core.subjects import SLOT_STREAM, slot_api

from .raw import Raw, connected
from .stage import Process, Stage, until
from .test_resume import slot_of


async def stored(stage: Stage, sandbox: Sandbox) -> list[str]:
    """The ids of the messages in the sandbox's stream, in its order."""
    js = stage.core.sandbox_nats.client.jetstream(prefix=slot_api(await slot_of(stage, sandbox.id)))
    state = (await js.stream_info(SLOT_STREAM)).state
    found = []
    for number in range(state.first_seq, state.last_seq + 1):
        frame = json.loads((await js.get_msg(SLOT_STREAM, number)).data)
        if frame["t"] == "MESSAGE_CREATE":
            found.append(frame["d"]["id"])
    return found


def check(found: list[dict[str, Any]], known: set[str]) -> list[str]:
    """Return the messages' ids; each server's are between its GUILD_CREATE and its GUILD_DELETE.

    `known` are the servers that the client knows before, and afterwards.
    """
    seen = []
    for payload in found:
        match payload["t"]:
            case "GUILD_CREATE":
                assert payload["d"]["unavailable"] is False
                known.add(payload["d"]["id"])
            case "GUILD_DELETE":
                assert payload["d"]["unavailable"] is True
                known.remove(payload["d"]["id"])
            case "MESSAGE_CREATE":
                assert payload["d"]["guild_id"] in known
                seen.append(payload["d"]["id"])
    return seen


async def flowing(stage: Stage, stop: asyncio.Event) -> None:
    """Messages in every server, until told to stop."""
    while not stop.is_set():
        for guild in stage.guilds:
            stage.sim.message(guild)
        await asyncio.sleep(0.005)


async def switching(stage: Stage, rounds: int, process: Process | None = None) -> None:
    """Register two servers and give them back, again and again.

    With `process` its clients are told before the next round: a server that comes and goes before a client
    has heard of it is only told of by its events.
    """
    for _ in range(rounds):
        for guild in stage.guilds[1:3]:
            await stage.register("mine", guild)
        await all_told(stage, process)
        for guild in stage.guilds[1:3]:
            await stage.unregister(guild)
        await all_told(stage, process)


async def all_told(stage: Stage, process: Process | None) -> None:
    """Wait until the process's clients know the servers that are theirs, and no others."""
    if process is not None:
        every = [str(guild.id) for guild in stage.guilds]
        await until(
            lambda: all(
                [each in session.known for each in every]
                == [each in session.tenant.guild_ids for each in every]
                for session in process.endpoint.sessions
            )
        )


async def test_a_connected_client_sees_every_switch_exactly(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    stop = asyncio.Event()
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        flow = asyncio.create_task(flowing(stage, stop))
        reading = asyncio.create_task(raw.until_content("the end"))
        await switching(stage, rounds=6, process=process)
        stop.set()
        await flow
        stage.sim.message(stage.guilds[0], content="the end")
        found = await reading
        assert check(found, {str(stage.guilds[0].id)}) == await stored(stage, mine)
        told = [each["t"] for each in found if each["t"].startswith("GUILD_")]
        assert told.count("GUILD_CREATE") == told.count("GUILD_DELETE") == 12


async def test_a_client_that_is_cut_again_and_again_sees_the_same(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    other = await stage.start()
    token, stop = stage.token(mine), asyncio.Event()
    async with connected(process) as raw:
        await raw.identify(token)
    session_id, sequence = raw.session_id, raw.sequence or 0
    flow = asyncio.create_task(flowing(stage, stop))
    switches = asyncio.create_task(switching(stage, rounds=4))
    found: list[dict[str, Any]] = []
    cuts = 0
    first = str(stage.guilds[0].id)
    # What a server's end was before is told a moment later than the server's last event.
    while not (switches.done() and stop.is_set() and _ends(found) and known(found, first) == {first}):
        async with connected((process, other)[cuts % 2]) as again:
            await again.resume(token, session_id, sequence)
            # Once all was sent the rest is read in a few turns, however much it is.
            found += await _some(again, switches, 10_000 if stop.is_set() else 200)
            sequence = again.sequence or sequence
        cuts += 1
        # A fast machine is done with the switches after few cuts.
        if switches.done() and cuts > 3 and not stop.is_set():
            stop.set()
            await flow
            stage.sim.message(stage.guilds[0], content="the end")
    await switches
    # A server may be told of twice, where it is not certain that the first time arrived.
    seen = [each["d"]["id"] for each in found if each["t"] == "MESSAGE_CREATE"]
    assert seen == await stored(stage, mine)
    # One that has come and gone while the client was away is not told of, but for its events.
    ours = {str(guild.id) for guild in stage.guilds[:3]}
    assert {each["d"]["guild_id"] for each in found if each["t"] == "MESSAGE_CREATE"} <= ours


def known(found: list[dict[str, Any]], first: str) -> set[str]:
    """The servers that a client knows after this."""
    present = {first}
    for payload in found:
        if payload["t"] == "GUILD_CREATE":
            present.add(payload["d"]["id"])
        elif payload["t"] == "GUILD_DELETE":
            present.discard(payload["d"]["id"])
    return present


def _ends(found: list[dict[str, Any]]) -> bool:
    return any(each["t"] == "MESSAGE_CREATE" and each["d"]["content"] == "the end" for each in found)


async def _some(raw: Raw, switches: asyncio.Task[None], count: int) -> list[dict[str, Any]]:
    """The next payloads, as many, or up to the end."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        if switches.done() and found and (len(found) > count // 2 or _ends(found)):
            break
        try:
            found.append(await raw.receive(2.0))
        except TimeoutError:
            break
    return [each for each in found if each["op"] == 0]
