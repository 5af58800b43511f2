"""The gateway's protocol, byte by byte and code by code."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox_core.models import Sandbox
from sandbox_core.postgres import connected as pooled
from sandbox_core.postgres import sandboxes
from sandbox_core.subjects import client_identify_keys

from .raw import ALL, Raw, connected
from .stage import ALICE, BOB, QUICK, Process, Stage

PRESENCES, MEMBERS, CONTENT = 1 << 8, 1 << 1, 1 << 15


@pytest.mark.parametrize("compress", ["", "zlib-stream", "zstd-stream"])
@pytest.mark.parametrize("version", ["9", "10"])
async def test_frames_stay_as_discord_sent_them_but_for_their_numbers(
    stage: Stage, process: Process, compress: str, version: str
) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    query = f"v={version}&encoding=json" + (f"&compress={compress}" if compress else "")
    async with connected(process, query) as raw:
        ready, created = await raw.identify(stage.token(mine))
        assert ready["d"]["guilds"] == [{"id": str(guild.id), "unavailable": True}]
        assert ready["d"]["v"] == int(version)
        assert {"user", "session_id", "resume_gateway_url", "application"} <= ready["d"].keys()
        assert (ready["d"]["private_channels"], ready["d"]["shard"]) == ([], [0, 1])
        assert (created["t"], created["d"]["unavailable"], created["s"]) == ("GUILD_CREATE", False, 2)
        sent = [frame for n in range(20) for frame in stage.sim.message(guild, content=f"ü\ud83d {n}")]
        sent += stage.sim.emit_raw(b'{ "guild_id": "%d", "s":1,"x":[1,  2]}' % guild.id, "MADE_UP", guild.id)
        await raw.until_event("MADE_UP")
        for number, (frame, text) in enumerate(zip(sent, raw.texts[3:], strict=True), start=3):
            own, theirs = frame.raw, text
            assert own.replace(b'"s":%d,' % frame.seq, b'"s":%d,' % number, 1) == theirs


async def test_heartbeats_are_acknowledged(process: Process) -> None:
    async with connected(process) as raw:
        await raw.send(1, None)
        assert (await raw.receive())["op"] == 11


@pytest.mark.parametrize(
    ("query", "code"), [("v=10&encoding=etf", 4002), ("v=8&encoding=json", 4012), ("v=11", 4012)]
)
async def test_other_encodings_and_versions_are_refused(process: Process, query: str, code: int) -> None:
    async with connected(process, query) as raw:
        assert await raw.close_code() == code


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("nothing", 4002),
        ('{"op": 1, "d": "many"}', 4002),
        ('{"op": 1, "d": {}}', 4002),
        ('{"op": "two"}', 4002),
        ('{"op": 99}', 4001),
        (f'{{"op": 1, "d": {"[" * 2000}{"]" * 2000}}}', 4002),
        (f'{{"op": 2, "d": {"[" * 2000}{"]" * 2000}}}', 4002),
        ('{"op": 8, "d": {"guild_id": "1"}}', 4003),
        ('{"op": 3, "d": {}}', 4003),
        ('{"op": 2, "d": {"token": 5}}', 4002),
        (json.dumps({"op": 2, "d": {"token": "x" * 5000}}), 4002),
        ('{"op": 2, "d": {"token": "MA.sbx-00000000.x", "intents": 1}}', 4004),
        (json.dumps({"op": 2, "d": {"token": f"MA.sbx-00000000.{'x' * 43}", "intents": 1}}), 4004),
    ],
)
async def test_what_is_wrong_has_its_code(process: Process, sent: str, code: int) -> None:
    async with connected(process) as raw:
        await raw.socket.send_str(sent)
        assert await raw.close_code() == code


@pytest.mark.parametrize(
    ("identify", "code"),
    [
        ({"intents": None}, 4013),
        ({"intents": 1 << 40}, 4013),
        ({"shard": [1, 1]}, 4010),
        ({"shard": [0, 0]}, 4010),
    ],
)
async def test_wrong_identifies_have_their_codes(
    stage: Stage, process: Process, identify: dict[str, Any], code: int
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as raw:
        await raw.send(2, {"token": stage.token(mine), "intents": 1, **identify})
        assert await raw.close_code() == code


async def test_an_intent_that_the_application_lacks_is_refused(
    stage: Stage, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = stage.sim.world.application()
    monkeypatch.setattr(stage.sim.world, "application", lambda: {**application, "flags": 1 << 19})
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as raw:
        await raw.send(2, {"token": stage.token(mine), "intents": 1 | MEMBERS})
        assert await raw.close_code() == 4014
    async with connected(process) as raw:
        assert len(await raw.identify(stage.token(mine), intents=1 | CONTENT)) == 2
    # Allowed at Discord meanwhile, it is allowed here.
    monkeypatch.undo()
    await pause()
    async with connected(process) as raw:
        assert len(await raw.identify(stage.token(mine), intents=1 | MEMBERS)) == 2


async def test_one_connection_has_one_session(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as raw:
        await raw.identify(f"Bot {stage.token(mine)}")
        await raw.send(2, {"token": stage.token(mine), "intents": 1})
        assert await raw.close_code() == 4005


async def test_too_many_payloads_are_too_many(process: Process) -> None:
    async with connected(process) as raw:
        for _ in range(121):
            await raw.send(1, None)
        assert await raw.close_code() == 4008


async def test_identifies_are_limited_for_each_sandbox(stage: Stage) -> None:
    process = await stage.start(replace(QUICK, identify_every=60.0))
    mine, other = (
        await stage.sandbox("mine", stage.guilds[0]),
        await stage.sandbox("other", stage.guilds[1], owner=BOB),
    )
    async with connected(process) as first, connected(process) as second, connected(process) as third:
        await first.identify(stage.token(mine))
        await second.send(2, {"token": stage.token(mine), "intents": 1})
        assert (await second.receive())["d"] is False
        await third.identify(stage.token(other))
        # On the same connection, once it may.
        pause, _ = client_identify_keys(mine.id)
        assert await stage.core.redis.delete(pause) == 1
        await second.identify(stage.token(mine))


async def test_intents_choose_the_events_and_the_contents(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as some, connected(process) as most:
        await most.identify(stage.token(mine))
        await pause()
        await some.identify(stage.token(mine), intents=1 | 1 << 9)
        stage.sim.emit("TYPING_START", {"guild_id": str(guild.id), "user_id": "1"})
        stage.sim.message(guild, content="secret")
        stage.sim.message(guild, content="<@me>", mentions=[{"id": str(stage.sim.application_id)}])
        assert [each["t"] for each in await most.until_content("<@me>")] == [
            "TYPING_START",
            "MESSAGE_CREATE",
            "MESSAGE_CREATE",
        ]
        found = await some.until_content("<@me>")
        assert [(each["s"], each["d"]["content"]) for each in found] == [(3, ""), (4, "<@me>")]


async def test_presences_are_silent_and_voice_is_not_there(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        await raw.send(3, {"status": "online", "activities": [], "since": None, "afk": False})
        await raw.send(4, {"guild_id": str(guild.id), "channel_id": None})
        await raw.send(43, {})
        await raw.send(1, raw.sequence)
        assert (await raw.receive())["op"] == 11


async def test_members_come_in_thousands(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    for number in range(1500):
        guild.add_member(stage.sim.add_user(f"user-{number}"))
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        _, created = await raw.identify(stage.token(mine))
        assert (created["d"]["large"], created["d"]["member_count"]) == (True, 1502)
        await raw.send(8, {"guild_id": guild.id, "query": "", "limit": 0, "nonce": "n", "presences": True})
        first, second = await raw.receive(), await raw.receive()
        assert [len(each["d"]["members"]) for each in (first, second)] == [1000, 502]
        assert (second["d"]["chunk_index"], second["d"]["chunk_count"], second["d"]["nonce"]) == (1, 2, "n")
        assert first["s"] == second["s"] == 2
        await raw.send(8, {"guild_id": str(guild.id), "query": "", "limit": 0, "nonce": "m"})
        limited = await raw.receive()
        assert (limited["t"], limited["d"]["opcode"]) == ("RATE_LIMITED", 8)
        assert limited["d"]["meta"] == {"guild_id": str(guild.id), "nonce": "m"}
        assert 0 < limited["d"]["retry_after"] <= 30
        for limit, number in ((5, 5), (-5, 1), (100_000, 100)):
            await raw.send(8, {"guild_id": str(guild.id), "query": "", "limit": limit})
            assert len((await raw.receive())["d"]["members"]) == number
        await raw.send(8, {"guild_id": str(guild.id), "query": "user-7", "limit": 3})
        names = [each["user"]["username"] for each in (await raw.receive())["d"]["members"]]
        assert len(names) == 3
        assert all(name.startswith("user-7") for name in names)
        owner = str(guild.owner.id)
        await raw.send(8, {"guild_id": str(guild.id), "user_ids": [owner, "17"]})
        named = (await raw.receive())["d"]
        assert [each["user"]["id"] for each in named["members"]] == [owner]
        assert named["not_found"] == ["17"]


async def test_members_and_sounds_of_foreign_servers_are_not_told(stage: Stage, process: Process) -> None:
    guild, foreign = stage.guilds[:2]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        await raw.send(8, {"guild_id": str(foreign.id), "query": "", "limit": 0})
        await raw.send(31, {"guild_ids": [str(foreign.id), str(guild.id)]})
        sounds = await raw.receive()
        assert (sounds["t"], sounds["d"]) == (
            "SOUNDBOARD_SOUNDS",
            {"guild_id": str(guild.id), "soundboard_sounds": []},
        )


async def test_an_expiry_ends_connections_within_a_second(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        ends = datetime.now(UTC) + timedelta(seconds=1.5)
        async with pooled(stage.core.pool) as connection:
            await sandboxes.set_expiry(connection, mine.id, ends)
        assert await raw.close_code() == 4004
        assert timedelta(0) <= datetime.now(UTC) - ends < timedelta(seconds=1)
    await refused(stage, process, mine)


@pytest.mark.parametrize("ending", ["destroy", "rotate"])
async def test_an_end_and_a_rotation_end_connections_within_a_second(
    stage: Stage, process: Process, ending: str
) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        closing = asyncio.create_task(raw.close_code())
        changing = asyncio.create_task(getattr(stage.core.manager, ending)(ALICE, "mine"))
        while await row_of(stage, mine) == (mine.status, mine.generation):
            await asyncio.sleep(0.01)
        committed = time.monotonic()
        assert await closing == 4004
        assert time.monotonic() - committed < 1
        await changing
    await refused(stage, process, mine)


async def row_of(stage: Stage, sandbox: Sandbox) -> tuple[str, int]:
    async with pooled(stage.core.pool) as connection:
        row = await sandboxes.by_id(connection, sandbox.id)
    assert row is not None
    return row.status, row.generation


async def refused(stage: Stage, process: Process, sandbox: Sandbox) -> None:
    """The token that the sandbox had lets nobody in."""
    async with connected(process) as raw:
        await raw.send(2, {"token": stage.token(sandbox), "intents": 1})
        assert await raw.close_code() == 4004


async def test_shards_divide_the_servers(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", *stage.guilds)
    seen: list[int] = []
    for shard in range(2):
        async with connected(process) as raw:
            ready, *created = await raw.identify(stage.token(mine), shard=[shard, 2])
            assert ready["d"]["shard"] == [shard, 2]
            guild_ids = [int(each["d"]["id"]) for each in created]
            assert all(guild_id >> 22 & 1 == shard for guild_id in guild_ids)
            seen += guild_ids
            await pause()
    assert sorted(seen) == [guild.id for guild in stage.guilds]


async def pause() -> None:
    """Let the time pass in which a sandbox's bots may not identify again."""
    await asyncio.sleep(2 * QUICK.identify_every)


async def messages(stage: Stage, raw: Raw, *contents: str) -> None:
    """Write these, and receive them."""
    for content in contents:
        stage.sim.message(stage.guilds[0], content=content)
        await raw.until_content(content)


async def test_all_intents_are_known(stage: Stage, process: Process) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    async with connected(process) as raw:
        await raw.identify(stage.token(mine), intents=ALL)
        await messages(stage, raw, "one", "two")
        assert raw.sequence == 4
