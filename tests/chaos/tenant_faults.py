"""The sandboxes' own PostgreSQL, Valkey and NATS: killed, hung and full, while production's events flow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import nats
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy
from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServer
from sandbox_core.nats.tenant.keys import BOT
from tests.conftest import revive
from tests.embedded.hanging import frozen

from .bots import RECOVERS_WITHIN, ChaosError, until_named
from .tenants import Tenants

if TYPE_CHECKING:
    from .stage import Stage

_VALUE = "x" * (1 << 20)
_FILLED_WITHIN = 30.0
_RESERVE = 40 << 20


def _tenants(stage: Stage) -> Tenants:
    if stage.tenants is None:
        raise ChaosError("there is no side of the sandboxes")
    return stage.tenants


async def _is_ready(stage: Stage) -> None:
    if not await stage.places[0].is_ready():
        raise ChaosError("/readyz says that production's events are not taken")


async def _away(stage: Stage, server: EmbeddedServer, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    await server.kill()
    await asyncio.sleep(seconds / 2)
    await _is_ready(stage)
    await server.start()
    await _well_again(stage, seconds)


async def _hung(stage: Stage, server: EmbeddedServer, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    async with frozen(server):
        await asyncio.sleep(seconds / 2)
        await _is_ready(stage)
    await _well_again(stage, seconds)


async def _well_again(stage: Stage, seconds: float) -> None:
    tenants = _tenants(stage)
    await asyncio.gather(tenants.get_events(), tenants.log_in())
    await asyncio.sleep(seconds / 4)


async def nats_killed(stage: Stage, seconds: float) -> None:
    """Their nats-server is away, and with it what it had in memory."""
    await _away(stage, _tenants(stage).nats, seconds)


async def nats_hung(stage: Stage, seconds: float) -> None:
    """SIGSTOP for their nats-server."""
    await _hung(stage, _tenants(stage).nats, seconds)


async def nats_full(stage: Stage, seconds: float) -> None:
    """The stream of each sandbox refuses what is new."""
    tenants = _tenants(stage)
    await asyncio.sleep(seconds / 4)
    async with _accounts(tenants) as streams:
        for js in streams:
            await _limit(js, full=True)
        await until_named(stage.places[0], "Sandboxes", "SANDBOX", RECOVERS_WITHIN)
        await asyncio.sleep(seconds / 2)
        await _is_ready(stage)
        for js in streams:
            await _limit(js, full=False)
    await _well_again(stage, seconds)


async def valkey_killed(stage: Stage, seconds: float) -> None:
    """Their Valkey is away, and comes back without users."""
    await _away(stage, _tenants(stage).valkey, seconds)


async def valkey_hung(stage: Stage, seconds: float) -> None:
    """SIGSTOP for their Valkey."""
    await _hung(stage, _tenants(stage).valkey, seconds)


async def valkey_full(stage: Stage, seconds: float) -> None:
    """One sandbox stores as much as Valkey takes, then a little less."""
    tenants = _tenants(stage)
    variables = next(iter(tenants.logins.values()))
    prefix = variables["SANDBOX_REDIS_PREFIX"]
    await asyncio.sleep(seconds / 4)
    async with Redis.from_url(variables["REDIS_URL"]) as redis:
        count = 0
        with contextlib.suppress(rd.OutOfMemoryError):
            async with asyncio.timeout(_FILLED_WITHIN):
                while True:
                    await redis.set(f"{prefix}{count}", _VALUE)
                    count += 1
        await asyncio.sleep(seconds / 2)
        await _is_ready(stage)
        for number in range(count):
            await redis.unlink(f"{prefix}{number}")
    await _well_again(stage, seconds)


async def postgres_killed(stage: Stage, seconds: float) -> None:
    """Their PostgreSQL is away; the bot's own is another."""
    await _away(stage, _tenants(stage).postgres, seconds)


async def postgres_hung(stage: Stage, seconds: float) -> None:
    """SIGSTOP for their PostgreSQL and all its processes."""
    await _hung(stage, _tenants(stage).postgres, seconds)


async def postgres_full(stage: Stage, seconds: float) -> None:
    """One sandbox fills the disk of their PostgreSQL, which may end by that."""
    tenants = _tenants(stage)
    disk = tenants.disk
    if disk is None:
        raise ChaosError("the disk is not small")
    await asyncio.sleep(seconds / 4)
    url = next(iter(tenants.logins.values()))["DATABASE_URL"]
    reserve = disk.directory / "reserve"
    reserve.write_bytes(bytes(_RESERVE))
    await _fill_disk(url)
    await asyncio.sleep(seconds / 2)
    await _is_ready(stage)
    # As the operator makes room, and the sandbox's owner removes what is too much.
    reserve.unlink()
    await revive(tenants.postgres)
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE IF EXISTS large")
    await connection.close()
    await _well_again(stage, seconds)


async def _fill_disk(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE large (text text STORAGE EXTERNAL)")
        async with asyncio.timeout(_FILLED_WITHIN):
            while True:
                await connection.execute(
                    "INSERT INTO large SELECT repeat('x', 100000) FROM generate_series(1, 200)"
                )
    except (asyncpg.DiskFullError, asyncpg.PostgresConnectionError, asyncpg.CrashShutdownError, OSError):
        # The statement is refused, or the server ends as its journal has no room.
        return
    finally:
        connection.terminate()


@contextlib.asynccontextmanager
async def _accounts(tenants: Tenants) -> AsyncIterator[list[JetStreamContext]]:
    """JetStream of each sandbox's account, with the bot's own rights."""
    password = tenants.nats._keys.password(BOT)
    client = await nats.connect(tenants.nats.url, user=BOT, password=password)
    try:
        found = []
        for slot in range(len(tenants.logins)):
            js = client.jetstream(prefix=f"$JS.S{slot:03}.API", timeout=5)
            found.append(js)
        yield found
    finally:
        await client.close()


async def _limit(js: JetStreamContext, *, full: bool) -> None:
    info = await js.stream_info("SANDBOX")
    if full:
        info.config.max_msgs, info.config.discard = info.state.messages + 1, DiscardPolicy.NEW
    else:
        info.config.max_msgs, info.config.discard = -1, DiscardPolicy.OLD
    await js.update_stream(info.config)
