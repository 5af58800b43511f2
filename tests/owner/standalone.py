"""The standalone bot in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discord

from sandbox_bot.client import SandboxBot
from sandbox_bot.runner import run_bot
from sandbox_core.ops import OpsServer
from sandbox_core.settings import Settings


@asynccontextmanager
async def standalone_bot(settings: Settings) -> AsyncIterator[SandboxBot]:
    """Run it until the end of the body."""
    base = discord.http.Route.BASE
    stop = asyncio.Event()
    started: asyncio.Future[SandboxBot] = asyncio.get_running_loop().create_future()

    async def on_started(bot: SandboxBot, _ops: OpsServer) -> None:
        started.set_result(bot)

    run = asyncio.create_task(run_bot(settings, stop=stop, on_started=on_started))
    try:
        await asyncio.wait({run, started}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        if run.done():
            await run
        yield started.result()
    finally:
        stop.set()
        await run
        discord.http.Route.BASE = base
