"""A sandbox's worker that floods every server it has a login for: `python -m benchmarks.hostile`.

The logins come as a line of JSON on standard input; without any it only computes. It ends when its standard
input does, and says in JSON what it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import asyncpg
import nats
import nats.errors
from nats.aio.client import Client
from redis import exceptions as rd
from redis.asyncio import Redis

_BATCH = 200
_BEGINS_WITHIN = 20.0
_VALUE = b"x" * 1300


async def _silent(_error: Exception) -> None:
    """What the server objects to counts as a refusal."""


async def _connected(logins: Mapping[str, str]) -> Client:
    return await nats.connect(
        logins["NATS_URL"],
        error_cb=_silent,
        allow_reconnect=False,
        max_reconnect_attempts=0,
        connect_timeout=5,
    )


async def _letters(logins: Mapping[str, str], did: Counter[str]) -> None:
    client = await _connected(logins)
    subject = f"sandbox.{logins['sandbox_id']}.events.dead_letter.X"
    try:
        while True:
            for _ in range(_BATCH):
                await client.publish(subject, _VALUE)
            await client.flush(timeout=30)
            did["messages to NATS"] += _BATCH
    finally:
        await client.close()


async def _logins(logins: Mapping[str, str], did: Counter[str]) -> None:
    while True:
        client = await _connected(logins)
        await client.close()
        did["logins to NATS"] += 1


async def _keys(logins: Mapping[str, str], did: Counter[str]) -> None:
    async with Redis.from_url(logins["REDIS_URL"]) as redis:
        while True:
            async with redis.pipeline(transaction=False) as pipe:
                for number in range(_BATCH):
                    pipe.set(f"sandbox:{logins['sandbox_id']}:{number}", _VALUE)
                await pipe.execute()
            did["keys to Redis"] += _BATCH


async def _rows(logins: Mapping[str, str], did: Counter[str]) -> None:
    connection = await asyncpg.connect(logins["DATABASE_URL"])
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS flood (i int, text text)")
        while True:
            await connection.execute(
                "INSERT INTO flood SELECT i, repeat('x', 100) FROM generate_series(1, 500) i"
            )
            await connection.execute("DELETE FROM flood")
            did["rows to PostgreSQL"] += 500
    finally:
        connection.terminate()


async def _again(
    work: Callable[[Mapping[str, str], Counter[str]], Awaitable[None]],
    logins: Mapping[str, str],
    did: Counter[str],
) -> None:
    """What the servers refuse is tried again at once."""
    while True:
        with contextlib.suppress(
            nats.errors.Error,
            rd.RedisError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            OSError,
            TimeoutError,
        ):
            await work(logins, did)
        did["refusals"] += 1


async def _compute() -> None:
    while True:
        sum(range(20_000))
        await asyncio.sleep(0)


async def _run() -> None:
    loop = asyncio.get_running_loop()
    logins = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    did: Counter[str] = Counter()
    works = [_letters, _logins, _keys, _rows] if logins else []
    tasks = [asyncio.create_task(_again(work, logins, did)) for work in works]
    if not works:
        tasks = [asyncio.create_task(_compute())]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BEGINS_WITHIN):
            # Nobody tells of what was done.
            while len(did) < len(works):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.readline)
    sys.stdout.write(json.dumps(did))
    sys.stdout.flush()
    # What is under way at a server that is flooded may take long to end.
    os._exit(0 if all(not task.done() for task in tasks) else 1)


if __name__ == "__main__":
    os.nice(10)
    asyncio.run(_run())
