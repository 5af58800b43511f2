"""Whether the servers answer, and how fast; asked at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nats.js import JetStreamContext
from redis.asyncio import Redis

from .errors import DependencyUnavailable
from .nats.errors import translating as translating_nats
from .postgres import Pool, connected
from .redis.errors import translating as translating_redis

ANSWER_WITHIN = 3.0
"""Seconds one server may take."""


Question = Callable[[], Awaitable[None]]
"""Returns when the server has answered; raises `DependencyUnavailable` when it can't."""


@dataclass(frozen=True, slots=True)
class DependencyHealth:
    """One server's answer. `problem` says why there was none, and is "" when there was."""

    name: str
    latency_ms: float
    problem: str = ""


async def check_dependencies(
    pool: Pool, redis: Redis, js: JetStreamContext, *, timeout: float = ANSWER_WITHIN
) -> tuple[DependencyHealth, ...]:
    """PostgreSQL, Redis and NATS; takes at most `timeout` seconds and never raises for a server."""
    asked = (ask(name, question, timeout) for name, question in questions(pool, redis, js).items())
    return tuple(await asyncio.gather(*asked))


def questions(pool: Pool, redis: Redis, js: JetStreamContext) -> dict[str, Question]:
    """A real request to each server, by the server's name, for `ask`."""

    async def postgres() -> None:
        async with connected(pool) as connection:
            await connection.execute("SELECT 1")

    async def valkey() -> None:
        with translating_redis():
            await redis.ping()

    async def jetstream() -> None:
        with translating_nats():
            await js.account_info()

    return {"PostgreSQL": postgres, "Redis": valkey, "NATS": jetstream}


async def ask(name: str, question: Question, timeout: float) -> DependencyHealth:
    """Ask one server; takes at most `timeout` seconds and never raises for the server."""
    started = time.perf_counter()
    problem = ""
    try:
        async with asyncio.timeout(timeout):
            await question()
    except TimeoutError:
        problem = f"no answer within {timeout:g} s"
    except DependencyUnavailable as error:
        problem = error.reason
    return DependencyHealth(name, (time.perf_counter() - started) * 1000, problem)
