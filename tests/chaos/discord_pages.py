"""A proxy before Discord that answers in its place, as Cloudflare does."""

from __future__ import annotations

import asyncio

from .bots import RECOVERS_WITHIN, until, until_named, until_well
from .discord_faults import identified_after, resumed_after
from .stage import Stage


async def cloudflare_page(stage: Stage, seconds: float) -> None:
    """Pages while the bot works, while its connection and its session end, and while it starts."""
    sim = stage.sim
    for status, path in ((429, ""), (403, r"/callback$"), (503, r"/gateway/bot$")):
        sim.show_page(status, "1", path)
        await asyncio.sleep(seconds / 10)
        await resumed_after(stage, sim.drop, f"a reset behind a page with {status}")
        sim.show_page(None)
        await asyncio.sleep(seconds / 10)
    sim.show_page(403, path=r"/gateway/bot$")
    ends = asyncio.get_running_loop().call_later(seconds / 10, sim.show_page, None)
    await identified_after(stage, lambda: sim.invalidate(resumable=False), "op 9 false behind a page")
    ends.cancel()
    sim.show_page(None)
    # Until its point is saved, nobody could go on with the new session.
    await until_well(stage.places[0], RECOVERS_WITHIN)
    await asyncio.sleep(seconds / 10)
    await _started_behind_pages(stage, seconds / 10)


async def _started_behind_pages(stage: Stage, each: float) -> None:
    sim = stage.sim
    sim.show_page(429, "1")
    await stage.bots.kill(stage.places[0])
    bot = stage.places[0] = await stage.bots.launch(stage.process_environment(0))
    await until(lambda: bot.ops_url, RECOVERS_WITHIN, "an ops endpoint behind a page")
    for status in (429, 403, 401):
        sim.show_page(status, "1")
        await until_named(bot, "gateway", f"status {status}", RECOVERS_WITHIN)
        await asyncio.sleep(each)
    sim.show_page(None)
    await bot.wait_ready()
