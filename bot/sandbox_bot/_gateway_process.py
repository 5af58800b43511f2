"""Runs the endpoint for unmodified bots as a process below this one, and again when it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import structlog

_log = structlog.get_logger("sandbox.bot")

_END_WITHIN = 8.0
_AGAIN_AFTER = 5.0
_COMMAND = (sys.executable, "-m", "sandbox_bot", "gateway", "--while-stdin-is-open")


@asynccontextmanager
async def gateway_process(settings: Mapping[str, str]) -> AsyncIterator[None]:
    """Run `sandboxctl gateway` while entered, with these settings (by field name) besides this process's.

    It is no part of the bot: what becomes of it changes nothing for production.
    """
    environment = {**os.environ, **{name.upper(): value for name, value in settings.items()}}
    stop = asyncio.Event()
    running = asyncio.create_task(_keep(environment, stop), name="gateway-process")
    try:
        yield
    finally:
        stop.set()
        await asyncio.shield(running)


async def _keep(environment: Mapping[str, str], stop: asyncio.Event) -> None:
    stopping = asyncio.create_task(stop.wait(), name="gateway-process-stop")
    while not stop.is_set():
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            env=environment,
            # Its end is this process's, however that comes.
            stdin=asyncio.subprocess.PIPE,
            # Ctrl-C is this process's to pass on.
            start_new_session=True,
        )
        ended = asyncio.create_task(process.wait(), name="gateway-process-end")
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await _end(process, ended)
            return
        _log.warning("gateway_process_ended", code=ended.result())
        await asyncio.wait({stopping}, timeout=_AGAIN_AFTER)


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    await asyncio.wait({ended}, timeout=_END_WITHIN)
    if not ended.done():
        with suppress(ProcessLookupError):
            process.kill()
        await ended
