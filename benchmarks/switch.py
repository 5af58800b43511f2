"""How exact and how quick a route change is while events flow."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from sandbox_bot.tour.readback import sandboxes_streams

from .flooded import Field, field
from .report import Section, Spread, percentile

_PROCESSES = (1, 3)
_RATE = 600
_SHARDS = 3


async def measure(section: Section) -> None:
    """Milliseconds from the command's answer to the last event on the old side; negative is before it."""
    changes = section.size(60, 6)
    rows: list[tuple[object, ...]] = []
    for count in _PROCESSES:
        taken, last = await _with_processes(count, changes)
        rows += [
            (f"{count} process(es): command sent to answered", *_percentiles(taken)),
            (f"{count} process(es): answered to last event stored on the old side", *_percentiles(last)),
        ]
    section.table(
        f"Route switch, milliseconds, {changes} changes each at {_RATE} events/s of the guilds that change",
        ("", "p50", "p99", "largest"),
        rows,
    )
    section.note("A negative figure: the last event of the old side was stored before the answer.")


def _percentiles(values: list[float]) -> tuple[str, ...]:
    return tuple(
        str(Spread((value,), 1)) for value in (percentile(values, 0.5), percentile(values, 0.99), max(values))
    )


async def _with_processes(count: int, changes: int) -> tuple[list[float], list[float]]:
    async with field(guilds=12, mappings=0, shards=_SHARDS) as ground, AsyncExitStack() as stack:
        await ground.clean()
        for number in range(count):
            mine = [shard for shard in range(_SHARDS) if shard % count == number]
            environment = {
                "DISCORD_SHARD_COUNT": str(_SHARDS),
                "DISCORD_SHARD_IDS": ",".join(map(str, mine)),
            }
            task = replace(ground.task, warm_up=1 << 40)
            await stack.enter_async_context(ground.contender("this bot", task, environment))
        guilds = [guild["id"] for guild in ground.sim.info["guilds"][1:]]
        created = await _slash(ground, "create", name="switching")
        if "switching" not in created["text"]:
            raise RuntimeError(f"create was refused: {created['text']}")
        flood = asyncio.create_task(_flood(ground, guilds))
        try:
            asked = [
                await _change(ground, guilds[number % len(guilds)], number // len(guilds))
                for number in range(changes)
            ]
        finally:
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)
        await asyncio.sleep(1)
        stored = await _stored(ground.js)
    taken = [(answered - began) * 1000 for _, _, began, answered in asked]
    late = [
        (when - answered) * 1000
        for guild, old_stream, began, answered in asked
        if (when := _last_before_next(stored, asked, guild, old_stream, began)) is not None
    ]
    return taken, late


async def _flood(ground: Field, guilds: list[str]) -> None:
    while True:
        await ground.sim.post("flood", count=_RATE, rate=_RATE, guilds=guilds)


async def _slash(ground: Field, command: str, **options: str) -> dict[str, Any]:
    return await ground.sim.post(
        "slash", **ground.sim.developer, path=f"sandbox {command}", options=options, timeout=20
    )


async def _change(ground: Field, guild: str, turn: int) -> tuple[str, str, float, float]:
    """Register or unregister; the guild, its old side's stream, and when it was asked and answered."""
    if turn % 2:
        began = time.time()
        answer = await _slash(ground, "unregister-guild", guild=guild)
        done, old = "Server unregistered", "SANDBOX"
    else:
        began = time.time()
        question = answer = await _slash(ground, "register-guild", name="switching", guild=guild)
        if "away from production" in question["text"]:
            # The click is the command: before it, nothing was to happen.
            began = time.time()
            answer = await ground.sim.post(
                "click",
                interaction_id=question["interaction_id"],
                user=ground.sim.developer["user"],
                label=question["buttons"][0],
                until=["Server registered", "SANDBOX_"],
                timeout=20,
            )
        done, old = "Server registered", "EVENTS"
    answered = time.time()
    if done not in answer["text"]:
        raise RuntimeError(f"a change was refused: {answer['text']}")
    return guild, old, began, answered


async def _stored(js: JetStreamContext) -> dict[tuple[str, str], list[float]]:
    """When each guild's messages were stored, by side."""
    times: dict[tuple[str, str], list[float]] = {}
    for stream in ("EVENTS", *await sandboxes_streams(js)):
        side = "EVENTS" if stream == "EVENTS" else "SANDBOX"
        total = (await js.stream_info(stream)).state.messages
        consumer = await js.add_consumer(
            stream, ConsumerConfig(ack_policy=AckPolicy.NONE, headers_only=True, inactive_threshold=30)
        )
        subscription = await js.pull_subscribe_bind(consumer.name, stream)
        while total > 0:
            batch = await subscription.fetch(min(1000, total), timeout=5)
            total -= len(batch)
            for message in batch:
                guild = (message.headers or {}).get("Discord-Guild-Id", "")
                times.setdefault((side, guild), []).append(message.metadata.timestamp.timestamp())
    return times


def _last_before_next(
    stored: dict[tuple[str, str], list[float]],
    asked: list[tuple[str, str, float, float]],
    guild: str,
    stream: str,
    began: float,
) -> float | None:
    """When the last event of this switch's old side was stored, before the guild's next switch."""
    until = min((other[2] for other in asked if other[0] == guild and other[2] > began), default=float("inf"))
    times = [when for when in stored.get((stream, guild), ()) if when < until]
    return max(times, default=None)
