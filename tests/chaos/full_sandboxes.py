"""The sandboxes' stream refuses; production's takes everything."""

from __future__ import annotations

import asyncio

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy

from .bots import RECOVERS_WITHIN, until_named
from .stage import Stage, jetstream


async def sandbox_stream_full(stage: Stage, seconds: float) -> None:
    """SANDBOX is full and discards what is new, twice; the bot says so, and goes on with production's."""
    for _ in range(2):
        await asyncio.sleep(seconds / 6)
        async with jetstream(stage) as js:
            await _limit(js, full=True)
            await until_named(stage.places[0], "Sandboxes", "SANDBOX", RECOVERS_WITHIN)
            await asyncio.sleep(seconds / 3)
            await _limit(js, full=False)
    await asyncio.sleep(seconds / 6)


async def _limit(js: JetStreamContext, *, full: bool) -> None:
    info = await js.stream_info("SANDBOX")
    if full:
        info.config.max_bytes, info.config.discard = info.state.bytes + 1, DiscardPolicy.NEW
    else:
        info.config.max_bytes, info.config.discard = -1, DiscardPolicy.OLD
    await js.update_stream(info.config)
