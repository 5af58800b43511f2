"""In floods, switches and outages each event of a host is on exactly one side, in order."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import discord
import nats
import pytest

from discord_sim import DiscordSim, SimGuild
from sandbox_bot.embedded import EmbeddedServers
from tests.streams import messages_of

from .host import HostBot, connected, core_of, everything_came, register, unregister, until

GATEWAY = "sandbox_cogs.gateway"


async def read_back(nats_url: str, stream: str, guild: SimGuild) -> list[int]:
    """The ids of a guild's messages in a stream, in its order."""
    client = await nats.connect(nats_url)
    try:
        js = client.jetstream()
        messages = await messages_of(js, stream)
    finally:
        await client.close()
    frames = [json.loads(message.data) for message in messages]
    return [
        int(frame["d"]["id"])
        for frame in frames
        if frame["t"] == "MESSAGE_CREATE" and frame["d"].get("guild_id") == str(guild.id)
    ]


def sent_to(sim: DiscordSim, guild: SimGuild) -> list[int]:
    frames = (frame for frame in sim.sent if frame.type == "MESSAGE_CREATE" and frame.guild_id == guild.id)
    return [int(json.loads(frame.raw)["d"]["id"]) for frame in frames]


async def check_sides(
    sim: DiscordSim, host: HostBot, heard: dict[SimGuild, list[int]], nats_url: str
) -> tuple[int, int]:
    """Host and production have the same, in the same order; the sandbox has all the rest."""
    await everything_came(sim, host)
    async with asyncio.timeout(120):
        await core_of(host).router.idle()
    switched = (0, 0)
    for guild, ids in heard.items():
        production = await read_back(nats_url, "EVENTS", guild)
        sandboxed = await read_back(nats_url, "SANDBOX", guild)
        assert ids == production
        assert set(production).isdisjoint(sandboxed)
        assert sorted(production + sandboxed) == sent_to(sim, guild)
        assert sandboxed == sorted(sandboxed)
        if sandboxed:
            switched = (len(production), len(sandboxed))
    return switched


def listen(host: HostBot, guilds: tuple[SimGuild, ...]) -> dict[SimGuild, list[int]]:
    heard: dict[SimGuild, list[int]] = {guild: [] for guild in guilds}
    by_id = {guild.id: ids for guild, ids in heard.items()}

    async def on_message(message: discord.Message) -> None:
        if message.guild is not None:
            by_id[message.guild.id].append(message.id)

    host.add_listener(on_message)
    return heard


async def test_in_a_flood_with_switches_both_ways_each_event_is_on_exactly_one_side(
    sim: DiscordSim, environment: None, guilds: tuple[SimGuild, SimGuild], nats_url: str
) -> None:
    host = HostBot(debug=False)
    async with connected(host, GATEWAY):
        heard = listen(host, guilds)
        await register(core_of(host), guilds[0])
        # On a busy machine a switch may take longer than its caller waits; it is exact all the same.
        for switch in (unregister, register) * 4:
            flood = asyncio.create_task(sim.flood(300, guilds=guilds, rate=800, payload_bytes=700))
            await switch(core_of(host), guilds[0], in_time=False)
            await flood
            await sim.flood(60, guilds=guilds)
        production, sandboxed = await check_sides(sim, host, heard, nats_url)
        assert production > 0
        assert sandboxed > 0
        assert len(heard[guilds[1]]) == 8 * 180


async def test_while_routes_are_unknown_the_host_waits_and_direct_messages_do_not(
    sim: DiscordSim,
    environment: pytest.MonkeyPatch,
    guilds: tuple[SimGuild, SimGuild],
    nats_url: str,
    servers: EmbeddedServers,
) -> None:
    """PostgreSQL and Redis are both away, and a route is changed by another process just then."""
    host = HostBot()
    async with connected(host, GATEWAY):
        core = core_of(host)
        heard = listen(host, guilds)
        edits: list[tuple[str, str]] = []

        async def on_message_edit(before: discord.Message, after: discord.Message) -> None:
            edits.append((before.content, after.content))

        host.add_listener(on_message_edit)
        await register(core, guilds[0])
        await until(lambda: core.routes.current_table is not None)
        for guild in guilds:
            sim.message(guild, content="before")
        await everything_came(sim, host)
        host.forget()
        await servers.postgres.stop()
        await servers.valkey.stop()
        try:
            await until(lambda: core.routes.current_table is None)
            follower: Any = core.routes._follower
            # As in a process that has never read them: nothing is known of any guild.
            follower.trusted.table = None
            follower._learned.clear()
            for number in range(20):
                for guild in guilds:
                    (frame,) = sim.message(guild, content=f"unknown {number}")
                    if number == 0:
                        sim.emit("MESSAGE_UPDATE", {**json.loads(frame.raw)["d"], "content": "edited"})
            await everything_came(sim, host)
            assert [text for text in host.texts if text.startswith("unknown")] == []
            assert host.heard_in(guilds[0]) == host.heard_in(guilds[1]) == set()
            known = [m.content for m in host.cached_messages]
            assert [known.count(text) for text in ("unknown 0", "edited", "unknown 19")] == [0, 2, 2]
        finally:
            await servers.valkey.start()
            await servers.postgres.start()
        await until(lambda: len(heard[guilds[1]]) == 21)
        assert [text for text in host.texts if text.startswith("unknown")] == [
            f"unknown {number}" for number in range(20)
        ]
        await until(lambda: edits == [("unknown 0", "edited")])
        assert await check_sides(sim, host, heard, nats_url) == (0, 21)


async def test_nats_away_holds_up_nothing_of_the_host(
    sim: DiscordSim, environment: None, guilds: tuple[SimGuild, SimGuild], nats_url: str, servers: Any
) -> None:
    host = HostBot()
    async with connected(host, GATEWAY):
        heard = listen(host, guilds)
        await register(core_of(host), guilds[0])
        sim.message(guilds[1], content="first")
        await everything_came(sim, host)
        await servers.nats.stop()
        try:
            for number in range(20):
                for guild in guilds:
                    sim.message(guild, content=str(number))
            await everything_came(sim, host)
            assert len(heard[guilds[1]]) == 21
            assert heard[guilds[0]] == []
        finally:
            await servers.nats.start()
        await check_sides(sim, host, heard, nats_url)
