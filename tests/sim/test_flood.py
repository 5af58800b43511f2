"""Floods: prepared frames, in order, at a rate, with back-pressure."""

from __future__ import annotations

import asyncio
import itertools
import json
import zlib
from typing import Any

import pytest
from backports import zstd

from discord_sim import DiscordSim, SimGuild, SimNotConnected
from discord_sim.frames import Encoder, Frame, Payload
from tests.sim.conftest import ConnectRaw


@pytest.mark.parametrize("compress", [None, "zlib-stream", "zstd-stream"])
async def test_frames_are_whole_unique_and_as_recorded(
    sim: DiscordSim, guild: SimGuild, connect: ConnectRaw, compress: str | None
) -> None:
    other = sim.add_guild("other")
    client = await connect(identify=True, compress=compress)
    await client.until("GUILD_CREATE")
    await client.until("GUILD_CREATE")
    sim.sent.clear()
    flood = asyncio.create_task(sim.flood(300, guilds=[guild, other], payload_bytes=1300))
    received = [await client.raw() for _ in range(300)]
    report = await flood
    # An ordinary event after prepared ones must not refer to what our deflater never saw.
    sim.message(guild, content="ordinary")
    received.append(await client.raw())
    assert received == [frame.raw for frame in sim.sent]
    messages = [json.loads(text) for text in received if text is not None]
    assert [m["s"] for m in messages] == list(range(4, 305))
    assert len({m["d"]["id"] for m in messages}) == 301
    assert [m["d"]["guild_id"] for m in messages[:4]] == [str(guild.id), str(other.id)] * 2
    assert messages[0]["d"]["message_reference"]["guild_id"] == str(other.id), "a decoy"
    sizes = [len(text) for text in received[:300] if text is not None]
    assert 1250 <= min(sizes) <= max(sizes) <= 1350
    assert (report.sent, report.frames) == (300, 300)
    assert report.by_guild == {guild.id: 150, other.id: 150}


async def test_a_rate_is_kept_and_due_times_are_even(
    sim: DiscordSim, guild: SimGuild, connect: ConnectRaw
) -> None:
    await connect(identify=True)
    sim.sent.clear()
    report = await sim.flood(100, guilds=[guild], rate=500)
    due = [int(json.loads(f.raw)["d"]["nonce"]) for f in sim.sent]
    steps = {later - earlier for earlier, later in itertools.pairwise(due)}
    assert max(abs(step - 2_000_000) for step in steps) <= 1
    assert report.seconds >= 99 / 500, "never ahead of the rate"


async def test_back_pressure_stops_a_flood(sim: DiscordSim, guild: SimGuild, connect: ConnectRaw) -> None:
    client = await connect(identify=True)
    flood = asyncio.create_task(sim.flood(60_000, guilds=[guild]))
    session = sim.sessions[0]

    def stalled_at() -> int:
        return session.sequence

    # The client does not read: the flood ends when sockets and queue are full.
    previous = -1
    while stalled_at() != previous:
        previous = stalled_at()
        await asyncio.sleep(0.1)
    assert not flood.done()
    assert session.connection is not None
    assert session.connection.queued < 2000
    for _ in range(previous):
        await client.raw()
    await sim.wait_for(lambda: session.sequence > previous)
    flood.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flood


async def test_a_flood_waits_for_a_client_that_comes_back(
    sim: DiscordSim, guild: SimGuild, connect: ConnectRaw
) -> None:
    client = await connect(identify=True)
    await client.until("GUILD_CREATE")
    session = sim.sessions[0]
    await client.close(4000)
    await sim.wait_for(lambda: not session.connected)
    flood = asyncio.create_task(sim.flood(20_000, guilds=[guild]))
    await sim.wait_for(lambda: session.sequence > 2)
    stopped = session.sequence
    await asyncio.sleep(0.05)
    assert session.sequence == stopped
    assert stopped < 200, "far from filling the replay buffer"
    again = await connect()
    await again.resume(sim.token, session.session_id, 2)
    numbers = [m["s"] for m in await again.until("RESUMED")]
    assert numbers == list(range(3, stopped + 2))
    read = 0
    while not flood.done() or read < 20_000 - (stopped - 2):
        await again.raw()
        read += 1
    assert (await flood).sent == 20_000


async def test_a_session_left_behind_does_not_hold_a_flood(
    sim: DiscordSim, guild: SimGuild, connect: ConnectRaw
) -> None:
    left = await connect(identify=True)
    await left.close(4000)
    await sim.wait_for(lambda: not sim.sessions[0].connected)
    await connect(identify=True)
    report = await asyncio.wait_for(sim.flood(200, guilds=[guild]), 60)
    assert (report.sent, report.frames) == (200, 400)
    assert sim.sessions[0].replayable == 201, "its own GUILD_CREATE and the flood"


async def test_a_flood_needs_somebody(sim: DiscordSim, guild: SimGuild) -> None:
    with pytest.raises(SimNotConnected):
        await sim.flood(1)


@pytest.mark.parametrize("compress", ["zlib-stream", "zstd-stream"])
def test_prepared_blocks_and_live_ones_share_a_stream(compress: str) -> None:
    encoder = Encoder(compress)
    inflater: Any = zlib.decompressobj() if compress == "zlib-stream" else zstd.ZstdDecompressor()

    def inflate(data: bytes) -> bytes:
        assert compress == "zstd-stream" or data.endswith(b"\x00\x00\xff\xff")
        return bytes(inflater.decompress(data))

    class Session:
        session_id = "s"
        shard = 0

    assert inflate(encoder.text(b'{"op":10}')) == b'{"op":10}'
    # One run of a single letter first: zstd likes to take the offsets for it that a frame begins with.
    bodies = [b'{"x":"' + b"repeat " * 50 + b'"}', b"a" * 300, b"abababab" * 40, b"0123" * 70_000, b"{}"]
    packed = [Payload("A", None, body) for body in bodies]
    for payload in packed:
        payload.pack()
    for number in range(1, 400):
        payload = packed[number % len(packed)] if number % 3 else Payload("B", None, b'{"x":"repeat repeat"}')
        frame = Frame(Session(), number, payload, b',"op":0,"d":')  # type: ignore[arg-type]
        assert inflate(encoder.frame(frame)) == frame.raw
        if number % 7 == 0:
            assert inflate(encoder.text(b'{"op":11}')) == b'{"op":11}'


@pytest.mark.parametrize("compress", ["zlib-stream", "zstd-stream"])
async def test_events_come_in_pieces_or_together_when_that_is_asked_for(
    sim: DiscordSim, connect: ConnectRaw, compress: str
) -> None:
    for number, pieces in enumerate((3, 0), 1):
        sim.rules.pieces = pieces
        client = await connect(compress=compress, whole=False)
        await client.identify(sim.token)
        await sim.wait_for(lambda number=number: len(sim.sessions) == number)
        sim.emit("A", {"x": 1})
        sim.emit("B", {"x": 2})
        text = b""
        while b'"B"' not in text or not text.endswith(b"}"):
            text += await client.piece()
        assert text.index(b'"READY"') < text.index(b'"A"') < text.index(b'"B"')
