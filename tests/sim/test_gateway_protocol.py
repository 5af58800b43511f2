"""The gateway's protocol rule by rule, with a client that can also break them."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest
from backports import zstd

from discord_sim import DiscordSim, SimGuild, SimTimeout
from tests.sim.conftest import ConnectRaw, ManualClock
from tests.sim.raw_client import RawClient


def session_id(sim: DiscordSim) -> str:
    return sim.sessions[-1].session_id


async def test_hello_heartbeat_and_requested_heartbeat(sim: DiscordSim, connect: ConnectRaw) -> None:
    client = await connect()
    assert json.loads(client.frames[0])["d"]["heartbeat_interval"] == 41_250
    await client.send(1, None)
    assert await client.read() == {"t": None, "s": None, "op": 11, "d": None}
    sim.faults.request_heartbeat()
    assert (await client.read())["op"] == 1


async def test_ready_then_guilds(sim: DiscordSim, guild: SimGuild, connect: ConnectRaw) -> None:
    client = await connect()
    await client.identify(sim.token)
    ready, create = await client.read(), await client.read()
    assert (ready["t"], ready["s"], ready["op"]) == ("READY", 1, 0)
    assert ready["d"]["shard"] == [0, 1]
    assert ready["d"]["session_id"] == session_id(sim)
    assert ready["d"]["resume_gateway_url"].startswith("ws://127.0.0.1:")
    assert ready["d"]["guilds"] == [{"id": str(guild.id), "unavailable": True}]
    assert (create["t"], create["s"]) == ("GUILD_CREATE", 2)
    assert create["d"]["id"] == str(guild.id)
    assert create["d"]["unavailable"] is False
    assert [c["name"] for c in create["d"]["channels"]] == ["general"]
    assert sim.identifies[0].intents == 513
    assert "token" not in sim.sessions[0].identify


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", 4002),
        ('{"d": 1}', 4002),
        ('{"op": 99, "d": null}', 4001),
        ('{"op": 8, "d": {}}', 4003),
        ('{"op": 2, "d": {"token": "wrong", "intents": 1}}', 4004),
        ('{"op": 6, "d": {"token": "wrong", "session_id": "x", "seq": 1}}', 4004),
        ('{"op": 2, "d": {"token": "sim-token", "intents": 1, "shard": [2, 2]}}', 4010),
        ('{"op": 2, "d": {"token": "sim-token", "intents": 1, "shard": "x"}}', 4010),
        ('{"op": 2, "d": {"token": "sim-token", "intents": 1099511627776}}', 4013),
    ],
)
async def test_close_codes_of_bad_messages(connect: ConnectRaw, text: str, code: int) -> None:
    client = await connect()
    await client.send_text(text)
    assert await client.closed() == code


async def test_identify_twice_closes_4005(sim: DiscordSim, connect: ConnectRaw) -> None:
    client = await connect(identify=True)
    await client.identify(sim.token)
    assert await client.closed() == 4005
    assert sim.sessions[0].alive


async def test_required_shards_and_disallowed_intents(sim: DiscordSim, connect: ConnectRaw) -> None:
    sim.rules.required_shards = 2
    client = await connect()
    await client.identify(sim.token)
    assert await client.closed() == 4011
    sim.rules.disallowed_intents = 1 << 15
    client = await connect()
    await client.identify(sim.token, shard=(0, 2), intents=1 << 15)
    assert await client.closed() == 4014


async def test_events_go_to_the_shard_of_their_guild(sim: DiscordSim, connect: ConnectRaw) -> None:
    guilds = [sim.add_guild(f"g{n}") for n in range(4)]
    assert {(g.id >> 22) % 2 for g in guilds} == {0, 1}
    clients = [await connect(shard=(n, 2), identify=True) for n in range(2)]
    for guild in guilds:
        frames = sim.emit("TYPING_START", {"guild_id": str(guild.id)})
        assert [f.shard for f in frames] == [(guild.id >> 22) % 2]
    (direct,) = sim.emit("ENTITLEMENT_CREATE", {"id": "1"})
    assert direct.shard == 0
    (forced,) = sim.emit("SOMETHING_NEW", {"id": "1"}, guild_id=1 << 22)
    assert forced.shard == 1
    for number, client in enumerate(clients):
        own = [g for g in guilds if (g.id >> 22) % 2 == number]
        messages = await client.until("ENTITLEMENT_CREATE" if number == 0 else "SOMETHING_NEW")
        assert [m["d"]["id"] for m in messages if m["t"] == "GUILD_CREATE"] == [str(g.id) for g in own]
        typed = [m["d"]["guild_id"] for m in messages if m["t"] == "TYPING_START"]
        assert typed == [str(g.id) for g in own]
        numbers = [m["s"] for m in messages]
        assert numbers == list(range(2, 2 + len(numbers)))


async def test_two_connections_of_one_shard_count_for_themselves(
    sim: DiscordSim, connect: ConnectRaw
) -> None:
    first = await connect(identify=True)
    sim.emit("A", {})
    second = await connect(identify=True)
    frames = sim.emit("B", {})
    assert [f.seq for f in frames] == [3, 2]
    assert len({f.session_id for f in frames}) == 2
    assert [m["s"] for m in await first.until("B")] == [2, 3]
    assert [m["s"] for m in await second.until("B")] == [2]


@pytest.mark.parametrize("compress", ["zlib-stream", "zstd-stream"])
async def test_recorded_bytes_are_the_sent_bytes(sim: DiscordSim, connect: ConnectRaw, compress: str) -> None:
    client = await connect(identify=True)
    packed = await connect(identify=True, compress=compress)
    body = b'{"guild_id": "7",  "text":"\\u00e9 \xc3\xa9 \xf0\x9f\x98\x80","n":1.50}'
    sim.emit_raw(body, "ODD", None)
    plain_frame, packed_frame = sim.sent
    assert await client.raw() == plain_frame.raw
    assert await packed.raw() == packed_frame.raw
    assert plain_frame.raw == b'{"t":"ODD","s":2,"op":0,"d":' + body + b"}"


@pytest.mark.parametrize("compress", [None, "zlib-stream", "zstd-stream"])
async def test_resume_replays_exactly_what_was_missed(
    sim: DiscordSim, connect: ConnectRaw, compress: str | None
) -> None:
    client = await connect(identify=True, compress=compress)
    sim.emit("SEEN", {"n": 0})
    await client.until("SEEN")
    await sim.drop()
    assert await client.closed() == 1006
    for number in range(3):
        sim.emit("MISSED", {"n": number})
    again = await connect(compress=compress, url=sim.gateway.resume_url)
    await again.resume(sim.token, session_id(sim), 2)
    messages = await again.until("RESUMED")
    assert [(m["t"], m["s"]) for m in messages] == [
        ("MISSED", 3),
        ("MISSED", 4),
        ("MISSED", 5),
        ("RESUMED", 6),
    ]
    assert [m["d"]["n"] for m in messages[:3]] == [0, 1, 2]
    assert sim.resumes[0].replayed == 3
    sim.emit("LATER", {})
    assert (await again.read())["s"] == 7


async def test_resume_from_an_older_sequence_repeats(sim: DiscordSim, connect: ConnectRaw) -> None:
    client = await connect(identify=True)
    for number in range(5):
        sim.emit("E", {"n": number})
    await client.close(4000)
    again = await connect()
    await again.resume(sim.token, session_id(sim), 2)
    assert [m["s"] for m in await again.until("RESUMED")] == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("code", [1000, 1001])
async def test_closing_normally_ends_the_session(sim: DiscordSim, connect: ConnectRaw, code: int) -> None:
    client = await connect(identify=True)
    await client.close(code)
    await sim.wait_for(lambda: not sim.sessions[0].alive)
    assert sim.sessions[0].last_client_close == code
    again = await connect()
    await again.resume(sim.token, session_id(sim), 1)
    assert await again.read() == {"t": None, "s": None, "op": 9, "d": False}
    assert sim.resumes[0].replayed is None


@pytest.mark.parametrize("code", [3000, 4000])
async def test_closing_otherwise_keeps_the_session(sim: DiscordSim, connect: ConnectRaw, code: int) -> None:
    client = await connect(identify=True)
    await client.close(code)
    await sim.wait_for(lambda: not sim.sessions[0].connected)
    assert sim.sessions[0].alive
    assert sim.sessions[0].last_client_close == code


async def test_too_little_replay_buffer_invalidates(connect: ConnectRaw) -> None:
    async with DiscordSim(replay_limit=3) as sim:
        client = await connect(sim, identify=True)
        await client.close(4000)
        await sim.wait_for(lambda: not sim.sessions[0].connected)
        for _ in range(4):
            sim.emit("E", {})
        again = await connect(sim)
        await again.resume(sim.token, session_id(sim), 2)
        assert (await again.until("RESUMED"))[0]["s"] == 3
        await again.close(4000)
        late = await connect(sim)
        await late.resume(sim.token, session_id(sim), 1)
        assert (await late.read())["op"] == 9


async def test_resume_ahead_of_the_session_closes_4007(sim: DiscordSim, connect: ConnectRaw) -> None:
    client = await connect(identify=True)
    await client.close(4000)
    again = await connect()
    await again.resume(sim.token, session_id(sim), 99)
    assert await again.closed() == 4007
    assert not sim.sessions[0].alive


async def test_a_session_is_resumable_for_its_life_only(clock: ManualClock, connect: ConnectRaw) -> None:
    async with DiscordSim(clock=clock, session_ttl=60) as sim:
        client = await connect(sim, identify=True)
        await client.close(4000)
        await sim.wait_for(lambda: not sim.sessions[0].connected)
        clock.advance(61)
        again = await connect(sim)
        await again.resume(sim.token, session_id(sim), 1)
        assert (await again.read())["d"] is False


async def test_frames_and_ends_of_sessions_are_dated(sim: DiscordSim, connect: ConnectRaw) -> None:
    attended, left = await connect(), await connect()
    for client in (attended, left):
        await client.identify(sim.token)
        await client.read()
    await left.close(4000)
    await sim.wait_for(lambda: not sim.sessions[1].connected)
    before = time.time()
    (first, second) = sim.emit("TYPING_START", {"guild_id": "1"})
    assert before <= first.sent_at <= second.sent_at <= time.time()
    assert [s.ended_at for s in sim.sessions] == [None, None]
    for session in sim.sessions:
        sim.hub.kill(session)
        sim.hub.kill(session)
    assert all(s.ended_at is not None and s.ended_at >= before for s in sim.sessions)
    assert [s.ended_connected for s in sim.sessions] == [True, False]


async def test_resume_takes_the_session_from_a_stale_connection(sim: DiscordSim, connect: ConnectRaw) -> None:
    stale = await connect(identify=True)
    fresh = await connect()
    await fresh.resume(sim.token, session_id(sim), 1)
    assert (await fresh.read())["t"] == "RESUMED"
    assert await stale.closed() == 4000
    assert sim.sessions[0].connected
    sim.emit("E", {})
    assert (await fresh.read())["t"] == "E"


@pytest.mark.parametrize(("code", "alive"), [(4000, True), (4008, True), (4009, False), (4014, False)])
async def test_closing_by_the_server(sim: DiscordSim, connect: ConnectRaw, code: int, alive: bool) -> None:
    client = await connect(identify=True)
    struck = asyncio.ensure_future(sim.close(code))
    assert await client.closed() == code
    await client.close(code)
    assert await struck == 1
    assert sim.sessions[0].alive is alive


async def test_reconnect_and_invalid_session_messages(sim: DiscordSim, connect: ConnectRaw) -> None:
    client = await connect(identify=True)
    sim.reconnect()
    assert await client.read() == {"t": None, "s": None, "op": 7, "d": None}
    sim.invalidate(True)
    assert (await client.read())["d"] is True
    assert sim.sessions[0].alive
    sim.invalidate(False)
    assert (await client.read())["d"] is False
    assert not sim.sessions[0].alive
    await client.identify(sim.token)
    assert (await client.read())["t"] == "READY", "a new session on the same connection"


async def test_faults_strike_one_shard_only(sim: DiscordSim, connect: ConnectRaw) -> None:
    first = await connect(identify=True, shard=(0, 2))
    second = await connect(identify=True, shard=(1, 2))
    assert await sim.drop(shard=1) == 1
    assert await second.closed() == 1006
    sim.emit("E", {})
    assert (await first.read())["t"] == "E"


async def test_frozen_acks_and_half_open(sim: DiscordSim, connect: ConnectRaw) -> None:
    client = await connect(identify=True)
    sim.freeze_acks()
    await client.send(1, 1)
    await sim.wait_for(lambda: sim.sessions[0].last_heartbeat_sequence == 1)
    sim.emit("E", {})
    assert (await client.read())["t"] == "E", "no ACK came before the event"
    sim.freeze_acks(False)
    await client.send(1, 2)
    assert (await client.read())["op"] == 11
    sim.half_open()
    sim.emit("WITHHELD", {})
    with pytest.raises(asyncio.TimeoutError):
        await client.read(timeout=0.1)
    sim.half_open(False)
    assert (await client.read())["t"] == "WITHHELD"


async def test_identify_buckets(clock: ManualClock, connect: ConnectRaw) -> None:
    async with DiscordSim(clock=clock, max_concurrency=2, enforce_identify_limit=True) as sim:
        for shard in (0, 1):
            await connect(sim, identify=True, shard=(shard, 4))
        hasty = await connect(sim)
        await hasty.identify(sim.token, shard=(2, 4))
        assert (await hasty.read())["op"] == 9
        clock.advance(5)
        await hasty.identify(sim.token, shard=(2, 4))
        assert (await hasty.read())["t"] == "READY"
        assert [(i.shard, i.accepted, i.too_soon) for i in sim.identifies] == [
            (0, True, False),
            (1, True, False),
            (2, False, True),
            (2, True, False),
        ]
        assert sim.rules.session_starts_left == 997


async def test_the_budget_of_identifies_shrinks_and_its_end_costs_the_token(
    sim: DiscordSim, connect: ConnectRaw
) -> None:
    sim.rules.session_starts_left = 1
    client = await connect()
    await client.identify(sim.token)
    assert (await client.read())["t"] == "READY"
    assert sim.rules.session_starts_left == 0
    another = await connect()
    await another.identify(sim.token)
    assert await another.closed() == 4004


async def test_refused_resume_url(sim: DiscordSim, connect: ConnectRaw) -> None:
    sim.refuse_resume_url()
    with pytest.raises(aiohttp.ClientError):
        await connect(url=sim.gateway.resume_url)
    assert isinstance(await connect(), RawClient)
    sim.refuse_resume_url(how="hang")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(connect(url=sim.gateway.resume_url), 0.1)
    sim.refuse_resume_url(False)
    assert isinstance(await connect(url=sim.gateway.resume_url), RawClient)


async def test_request_members(sim: DiscordSim, guild: SimGuild, connect: ConnectRaw) -> None:
    bob = sim.add_user("bob")
    guild.add_member(bob, nick="Bobby")
    client = await connect(identify=True)
    await client.send(8, {"guild_id": str(guild.id), "user_ids": [str(bob.id), "5"], "nonce": "n"})
    chunk = (await client.until("GUILD_MEMBERS_CHUNK"))[-1]["d"]
    assert [m["user"]["username"] for m in chunk["members"]] == ["bob"]
    assert (chunk["nonce"], chunk["not_found"], chunk["chunk_count"]) == ("n", ["5"], 1)
    assert sim.sent[-1].type == "GUILD_MEMBERS_CHUNK"


async def test_intents_filter_events_and_content(connect: ConnectRaw) -> None:
    async with DiscordSim(filter_intents=True) as sim:
        guild = sim.add_guild("g")
        blind = await connect(sim, identify=True, intents=1 | 1 << 9)
        seeing = await connect(sim, identify=True, intents=1 | 1 << 9 | 1 << 15)
        assert sim.emit("TYPING_START", {"guild_id": str(guild.id)}) == []
        sim.message(guild, content="secret")
        assert (await blind.until("MESSAGE_CREATE"))[-1]["d"]["content"] == ""
        assert (await seeing.until("MESSAGE_CREATE"))[-1]["d"]["content"] == "secret"


async def test_waiting_for_shards_says_what_is_there(sim: DiscordSim, connect: ConnectRaw) -> None:
    await connect(identify=True, shard=(1, 2))
    await sim.wait_connected()
    with pytest.raises(SimTimeout, match=r"\[1\]"):
        await sim.wait_connected(shards=2, timeout=0.05)


async def test_who_asks_for_zstd_may_get_something_else(sim: DiscordSim, connect: ConnectRaw) -> None:
    sim.rules.zstd = "plain"
    await connect(compress="zstd-stream")
    sim.rules.zstd = "zlib"
    client = await connect(compress="zstd-stream", whole=False)
    with pytest.raises(zstd.ZstdError):
        await client.piece()
    sim.rules.zstd = "closed"
    client = await connect(compress="zstd-stream", whole=False)
    assert await client.closed() == 4002
    sim.rules.zstd = "refused"
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await connect(compress="zstd-stream")
    await connect(compress="zlib-stream")
    await connect(compress="unheard-of")
    assert sim.rules.asked == ["zstd-stream"] * 4 + ["zlib-stream", "unheard-of"]
