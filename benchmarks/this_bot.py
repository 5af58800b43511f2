"""The bot itself as a contender."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sandbox_bot.client import SandboxBot
from sandbox_bot.logs import configure_logging
from sandbox_bot.runner import run_bot
from sandbox_core.ops import OpsServer
from sandbox_core.settings import load_settings

from .task import Counter, Task


@asynccontextmanager
async def this_bot(task: Task) -> AsyncIterator[Counter]:
    """The whole path: an event counts when JetStream has acknowledged it."""

    settings = load_settings(
        database_url=task.database_url,
        redis_url=task.redis_url,
        nats_url=task.nats_url,
        discord_token=task.token,
        discord_api_url=task.api_url,
        discord_dev_guild_ids=task.dev_guild,
        sandbox_max_per_owner=100_000,
        ops_port=task.ops_port,
        log_level="ERROR",
        sandbox_isolation="convention",
        _env_file=None,
    )
    configure_logging(settings)
    stop = asyncio.Event()
    started: asyncio.Future[SandboxBot] = asyncio.get_running_loop().create_future()

    async def on_started(bot: SandboxBot, _ops: OpsServer) -> None:
        started.set_result(bot)

    running = asyncio.create_task(run_bot(settings, stop=stop, on_started=on_started))
    either: set[asyncio.Future[Any]] = {running, started}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        await running
    core = started.result().sandbox_core
    await core.router.idle()
    routed = core.metrics.routing.routed
    before = sum(routed.values())
    try:
        yield lambda: sum(routed.values()) - before
    finally:
        stop.set()
        await running
