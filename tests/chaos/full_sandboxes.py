"""The sandboxes' streams refuse; production's takes everything."""

from __future__ import annotations

import asyncio
import contextlib

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy
from nats.js.errors import NotFoundError

from tests.streams import EVERY_SANDBOX, names_of

from .bots import RECOVERS_WITHIN, until_named
from .stage import Stage, jetstream


async def sandbox_stream_full(stage: Stage, seconds: float) -> None:
    """They are full and discard what is new, twice; the bot says so, and goes on with production's."""
    for _ in range(2):
        await asyncio.sleep(seconds / 6)
        async with jetstream(stage) as js:
            await _limit(js, full=True)
            await until_named(stage.places[0], "Sandboxes", "SANDBOX", RECOVERS_WITHIN)
            await asyncio.sleep(seconds / 3)
            await _limit(js, full=False)
    await asyncio.sleep(seconds / 6)


async def _limit(js: JetStreamContext, *, full: bool) -> None:
    for name in await names_of(js, EVERY_SANDBOX):
        # One may go with its sandbox.
        with contextlib.suppress(NotFoundError):
            info = await js.stream_info(name)
            if full:
                info.config.max_bytes, info.config.discard = info.state.bytes + 1, DiscardPolicy.NEW
            else:
                info.config.max_bytes, info.config.discard = -1, DiscardPolicy.OLD
            await js.update_stream(info.config)
