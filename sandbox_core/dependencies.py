"""Asks each server whether it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from nats.js import JetStreamContext
from redis.asyncio import Redis

from .errors import DependencyUnavailable
from .nats.connection import NatsConnection
from .nats.errors import translating as translating_nats
from .postgres import Pool, connected
from .redis.errors import translating as translating_redis
from .subjects import WRITE_TRIAL_KEY

SANDBOX_NATS = "NATS (sandboxes)"
"""The sandboxes' own NATS server, where the settings name one."""

Question = Callable[[], Awaitable[None]]
"""Returns when the server has answered. Raises `DependencyUnavailable`."""


async def ask_postgres(pool: Pool) -> None:
    """Send PostgreSQL a request."""
    async with connected(pool) as connection:
        await connection.execute("SELECT 1")


async def ask_redis(redis: Redis) -> None:
    """Send Redis a request that needs no right."""
    with translating_redis():
        await redis.ping()


def questions(
    pool: Pool, redis: Redis, js: JetStreamContext, nats: NatsConnection | None = None
) -> dict[str, Question]:
    """Return a real request for each server, by its name; `nats` knows why NATS does not answer."""

    async def valkey() -> None:
        with translating_redis():
            # There is never such a key, so this writes nothing; but who takes no writes refuses it.
            await redis.set(WRITE_TRIAL_KEY, "", xx=True)

    async def jetstream() -> None:
        if nats is not None:
            nats.denied = None
        try:
            with translating_nats():
                await js.account_info()
        except DependencyUnavailable as error:
            # A request without permission gets no answer.
            why = None if nats is None else nats.denied or (None if nats.connected else nats.trouble)
            raise why or error from error

    return {"PostgreSQL": partial(ask_postgres, pool), "Redis": valkey, "NATS": jetstream}


def sandbox_nats_question(js: JetStreamContext, nats: NatsConnection) -> Question:
    """A real request for the sandboxes' own NATS server."""

    async def jetstream() -> None:
        # A client that was never connected accepts requests as if it were connected.
        if not nats.connected:
            raise nats.trouble
        with translating_nats():
            await js.account_info()

    return jetstream
