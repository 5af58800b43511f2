"""Servers that are neither up nor down: their ports take connections, and nothing answers."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from sandbox_bot.embedded import EmbeddedServer
from tests.embedded.hanging import frozen

from .bots import ChaosError, until_named, until_well
from .stage import Stage

_NAMED_WITHIN = 15.0
_BACK_WITHIN = 2.0
_BEFORE, _AFTER = 2.0, 6.0


async def nats_hung(stage: Stage, seconds: float) -> None:
    """SIGSTOP for the only nats-server."""
    await _hung(stage, stage.nats[0], "NATS", stage.taps[0].url, seconds)


async def postgres_hung(stage: Stage, seconds: float) -> None:
    """SIGSTOP for PostgreSQL and all its processes."""
    await _hung(stage, stage.servers.postgres, "PostgreSQL", stage.servers.database_url, seconds)


async def redis_hung(stage: Stage, seconds: float) -> None:
    """SIGSTOP for Redis."""
    await _hung(stage, stage.servers.valkey, "Redis", stage.servers.redis_url, seconds)


async def _hung(stage: Stage, server: EmbeddedServer, part: str, url: str, seconds: float) -> None:
    bot, place = stage.places[0], urlsplit(url)
    await asyncio.sleep(_BEFORE)
    async with frozen(server):
        ends = time.monotonic() + seconds - _BEFORE - _AFTER
        await until_named(bot, part, f"{place.hostname}:{place.port}", _NAMED_WITHIN)
        await asyncio.sleep(ends - time.monotonic())
        if part not in await bot.failing():
            raise ChaosError(f"{part} hangs, and /readyz does not say so")
    back = time.monotonic()
    stored = _stored(stage)
    await until_well(bot, _BACK_WITHIN)
    while _stored(stage) == stored:
        if time.monotonic() - back > _BACK_WITHIN:
            raise ChaosError(f"no event was stored {_BACK_WITHIN:g} s after {part} answered again")
        await asyncio.sleep(0.02)
    stage.backs.append(time.monotonic() - back)
    await asyncio.sleep(_AFTER)


def _stored(stage: Stage) -> int:
    return sum(len(tap.acks) for tap in stage.taps)
