"""What many mappings and several processes change."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp

from .flooded import Field, field
from .report import Section, Spread

_MAPPINGS = (10, 1_000, 100_000)
_PROCESSES = (1, 2, 4)
_ROUNDS = 3
_BOT = "this bot"
_IDENTIFY_INTERVAL = 5.5
_LOOK_EVERY = 0.01


async def measure(section: Section) -> None:
    """Throughput, memory and start with 10 to 100,000 mappings; the total rate of 1 to 4 processes."""
    await _mappings(section)
    await _processes(section)


async def _mappings(section: Section) -> None:
    events = section.size(40_000, 4_000)
    rounds = 1 if section.quick else _ROUNDS
    rates: dict[int, list[float]] = {count: [] for count in _MAPPINGS}
    memory: dict[int, list[float]] = {count: [] for count in _MAPPINGS}
    starts: dict[int, list[float]] = {count: [] for count in _MAPPINGS}
    settled: dict[int, list[float]] = {count: [] for count in _MAPPINGS}
    async with AsyncExitStack() as stack:
        grounds = {}
        for count in _MAPPINGS:
            grounds[count] = await stack.enter_async_context(field(guilds=500, mappings=count))
        for _ in range(rounds):
            for count, ground in grounds.items():
                done = await ground.flood(_BOT, events, warm_up=events // 10)
                rates[count].append(events / done["seconds"])
                memory[count].append(done["rss"] / 1e6)
                await ground.clean()
                # The new session's IDENTIFY may come 5 s after the last one, which is no part of the start.
                await asyncio.sleep(_IDENTIFY_INTERVAL)
                answers, guilds_known = await _start(ground)
                starts[count].append(answers)
                settled[count].append(guilds_known)
    first = Spread(tuple(rates[_MAPPINGS[0]]), 0)
    section.table(
        "Mappings in the route table",
        (
            "mappings",
            "events/s",
            f"over {_MAPPINGS[0]}",
            "resident MB",
            "process start to ready, s",
            "to discord.py's ready, s",
        ),
        [
            (
                f"{count:,}",
                Spread(tuple(rates[count]), 0),
                Spread(tuple(rates[count])).over(first),
                Spread(tuple(memory[count]), 0),
                Spread(tuple(starts[count])),
                Spread(tuple(settled[count])),
            )
            for count in _MAPPINGS
        ],
    )
    section.note(
        "Ready is what `/readyz` says: the gateway is connected, the routes are loaded, the streams exist. "
        "discord.py calls itself ready when no GUILD_CREATE has come for another half second."
    )


async def _start(ground: Field) -> tuple[float, float]:
    """Seconds from a process's start until `/readyz` answers 200, and until discord.py is ready too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    ready = asyncio.create_task(_ready_at(port))
    try:
        async with ground.contender(_BOT, replace(ground.task, ops_port=port)):
            return await ready - began, time.monotonic() - began
    finally:
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)


async def _ready_at(port: int) -> float:
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return time.monotonic()
            except aiohttp.ClientError:
                # Nobody listens there yet; `contender` gives up when that goes on.
                pass
            await asyncio.sleep(_LOOK_EVERY)


async def _processes(section: Section) -> None:
    events = section.size(80_000, 8_000)
    rounds = 1 if section.quick else _ROUNDS
    shards = max(_PROCESSES)
    rates: dict[int, list[float]] = {count: [] for count in _PROCESSES}
    async with field(guilds=500, mappings=250, shards=shards) as ground:
        guilds = [int(guild["id"]) for guild in ground.sim.info["guilds"]]
        of_shard = {
            shard: sum(1 for guild in guilds if (guild >> 22) % shards == shard) for shard in range(shards)
        }
        for _ in range(rounds):
            for count in _PROCESSES:
                await ground.clean()
                async with AsyncExitStack() as stack:
                    starting = []
                    for number in range(count):
                        mine = [shard for shard in range(shards) if shard % count == number]
                        share = sum(of_shard[shard] for shard in mine)
                        # Guilds take turns, so a process gets as many events per round as it has guilds.
                        task = replace(
                            ground.task,
                            warm_up=share,
                            events=share * (events // len(guilds)),
                        )
                        environment = {
                            "DISCORD_SHARD_COUNT": str(shards),
                            "DISCORD_SHARD_IDS": ",".join(map(str, mine)),
                        }
                        starting.append(stack.enter_async_context(ground.contender(_BOT, task, environment)))
                    processes = [await start for start in starting]
                    await ground.sim.post("flood", count=len(guilds))
                    await asyncio.gather(*(process.says("warm", 120) for process in processes))
                    await ground.sim.post("flood", count=events // len(guilds) * len(guilds))
                    said = await asyncio.gather(*(process.says("done", 300) for process in processes))
                done: list[dict[str, Any]] = [message["done"] for message in said]
                seconds = max(d["ended"] for d in done) - min(d["began"] for d in done)
                rates[count].append(events / seconds)
    one = Spread(tuple(rates[1]), 0)
    section.table(
        f"Processes that share {shards} shards, on one machine with the servers and the simulator",
        ("processes", "events/s in all", "over one"),
        [
            (str(count), Spread(tuple(rates[count]), 0), Spread(tuple(rates[count])).over(one))
            for count in _PROCESSES
        ],
    )
