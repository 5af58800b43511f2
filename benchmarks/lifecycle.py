"""Ends of sandboxes: how long they take, and what they and their number cost the events of others."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from sandbox_core.models import Actor, Sandbox

from .latency import through_the_bot
from .report import Section, Spread, percentile
from .rig import Rig, rig

_OWNER = Actor("200000000000000001", "bench")
_RATE = 2000
_ROUNDS = 3
_PIPELINE = 5000


async def measure(section: Section) -> None:
    """The promises: an empty sandbox under 2 s, one with many keys under 15 s, 100 expired in under 60 s."""
    async with rig(guilds=100) as running:
        await _destroying(section, running)
        await _expired(section, running)
        await _beside_cleanup(section, running)
        await _many_sandboxes(section, running)


async def _seconds(work: Any) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _fill(redis: Redis, prefix: str, count: int) -> None:
    for start in range(0, count, _PIPELINE):
        async with redis.pipeline(transaction=False) as pipe:
            for number in range(start, min(count, start + _PIPELINE)):
                pipe.set(f"{prefix}{number}", "x")
            await pipe.execute()


async def _destroying(section: Section, running: Rig) -> None:
    core = running.bot.sandbox_core
    empty = []
    for _ in range(section.size(20, 3)):
        sandbox = (await core.manager.create(_OWNER)).sandbox
        empty.append(await _seconds(core.manager.destroy(_OWNER, str(sandbox.id))))
    total, own = section.size(1_000_000, 10_000), section.size(100_000, 1_000)
    await _fill(core.redis, "production:", total - own)
    full = []
    for _ in range(1 if section.quick else _ROUNDS):
        sandbox = (await core.manager.create(_OWNER)).sandbox
        await _fill(core.redis, f"sandbox:{sandbox.id}:", own)
        full.append(await _seconds(core.manager.destroy(_OWNER, str(sandbox.id))))
        left = [key async for key in core.redis.scan_iter(f"sandbox:{sandbox.id}:*", count=10_000)]
        if left:
            raise RuntimeError(f"{len(left)} keys are left")
    await core.redis.flushdb()
    section.table(
        "Destroying a sandbox, seconds",
        ("", "median (min-max)", "promise"),
        [
            ("empty", Spread(tuple(empty)), "< 2"),
            (f"{own:,} keys of its own among {total:,}", Spread(tuple(full)), "< 15"),
        ],
    )


async def _create_many(running: Rig, count: int) -> list[Sandbox]:
    core = running.bot.sandbox_core
    turns = asyncio.Semaphore(4)

    async def one() -> Sandbox:
        async with turns:
            return (await core.manager.create(_OWNER)).sandbox

    return await asyncio.gather(*(one() for _ in range(count)))


async def _expire(running: Rig, sandboxes: list[Sandbox]) -> None:
    """All at once, as if their time had passed."""
    ids = [sandbox.id for sandbox in sandboxes]
    await running.bot.sandbox_core.pool.execute(
        "UPDATE sandboxes SET created_at = now() - interval '2 hours',"
        " expires_at = now() - interval '1 second' WHERE id = ANY($1::uuid[])",
        ids,
    )


async def _gone(running: Rig, ids: list[UUID]) -> None:
    pool = running.bot.sandbox_core.pool
    while await pool.fetchval(  # noqa: ASYNC110 - the rows are what counts, and nobody tells of them
        "SELECT count(*) FROM sandboxes WHERE id = ANY($1::uuid[]) AND status <> 'destroyed'", ids
    ):
        await asyncio.sleep(0.05)


async def _expired(section: Section, running: Rig) -> None:
    count = section.size(100, 8)
    taken = []
    for _ in range(1 if section.quick else _ROUNDS):
        sandboxes = await _create_many(running, count)
        await _expire(running, sandboxes)
        # The bot's own upkeep removes them.
        taken.append(await _seconds(_gone(running, [sandbox.id for sandbox in sandboxes])))
    section.table(
        f"{count} sandboxes that expire at once, seconds until the last is gone",
        ("", "median (min-max)", "promise"),
        [("removed by the running bot", Spread(tuple(taken)), "< 60")],
    )


def _milliseconds(rounds: list[list[float]]) -> tuple[Spread, ...]:
    return tuple(
        Spread(tuple(percentile(values, share) for values in rounds)) for share in (0.5, 0.99, 0.999)
    )


async def _beside_cleanup(section: Section, running: Rig) -> None:
    count, keys = section.size(50, 5), section.size(2_000, 100)
    seconds = section.size(5, 2)
    core = running.bot.sandbox_core
    alone, beside, removed = [], [], []
    for _ in range(1 if section.quick else _ROUNDS):
        alone.append((await through_the_bot(running, _RATE, seconds))[0])
        sandboxes = await _create_many(running, count)
        for sandbox in sandboxes:
            await _fill(core.redis, f"sandbox:{sandbox.id}:", keys)
        await _expire(running, sandboxes)
        gone = asyncio.create_task(_seconds(_gone(running, [sandbox.id for sandbox in sandboxes])))
        beside.append((await through_the_bot(running, _RATE, seconds))[0])
        removed.append(await gone)
    section.table(
        f"Event latency at {_RATE:,}/s, frame read to acknowledged, milliseconds",
        ("", "p50", "p99", "p99.9"),
        [
            ("nothing else happens", *_milliseconds(alone)),
            (f"{count} sandboxes with {count * keys:,} keys are removed", *_milliseconds(beside)),
        ],
    )
    section.note(
        f"The removal took {Spread(tuple(removed))} s beside the events, and {seconds} s were measured."
    )


async def _many_sandboxes(section: Section, running: Rig) -> None:
    count, seconds = section.size(200, 10), section.size(5, 2)
    rounds = 1 if section.quick else _ROUNDS
    none, many = [], []
    # By turns, so that what changes on the machine meanwhile strikes both.
    for _ in range(rounds):
        none.append((await through_the_bot(running, _RATE, seconds))[0])
        sandboxes = await _create_many(running, count)
        many.append((await through_the_bot(running, _RATE, seconds))[0])
        await _expire(running, sandboxes)
        await _gone(running, [sandbox.id for sandbox in sandboxes])
    section.table(
        f"Event latency at {_RATE:,}/s with live sandboxes, milliseconds",
        ("", "p50", "p99", "p99.9"),
        [("none", *_milliseconds(none)), (f"{count} live sandboxes", *_milliseconds(many))],
    )
