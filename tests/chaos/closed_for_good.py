"""NATS that ends connections in a way which its driver takes for the end of everything."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from discord_sim import SimMessage
from tests.embedded.reloading import reload

from .bots import RECOVERS_WITHIN, until, until_named, until_well
from .stage import Stage

_LARGE = 300_000
_LESS = 100_000


async def nats_closed(stage: Stage, seconds: float) -> None:
    """The server's words, then a reload with too few connections, then one with too small messages."""
    bot, node, tap = stage.places[0], stage.nats[0], stage.taps[0]
    for said in ("User Authentication Expired", "Authorization Violation", "Unknown Protocol Operation"):
        await asyncio.sleep(seconds / 10)
        before = bot.events["nats_reconnected"]
        await tap.end_links(said)
        await until(lambda before=before: bot.events["nats_reconnected"] > before, RECOVERS_WITHIN, said)
    await asyncio.sleep(seconds / 10)
    place = urlsplit(tap.url)
    reload(node, max_connections=0)
    await until_named(bot, "NATS", f"{place.hostname}:{place.port}", RECOVERS_WITHIN)
    await asyncio.sleep(seconds / 6)
    reload(node, max_connections=100)
    await until_well(bot, RECOVERS_WITHIN)
    await asyncio.sleep(seconds / 10)
    ended = bot.events["nats_reconnected"]
    before = reload(node, max_payload=_LESS)
    # The reload itself tells nobody, so this is sent as always and ends the connection.
    while bot.events["nats_reconnected"] == ended:
        _large(stage)
        await asyncio.sleep(0.5)
    await until_well(bot, RECOVERS_WITHIN)
    _large(stage)
    await asyncio.sleep(seconds / 10)
    reload(node, **before)
    _large(stage)
    await asyncio.sleep(seconds / 6)


def _large(stage: Stage) -> None:
    guild = stage.chance.choice(sorted(stage.sim.world.guilds.values(), key=lambda each: each.id)[1:])
    message = SimMessage(stage.sim.world.snowflakes.next(), guild.default_channel, guild.owner)
    stage.sim.emit("MESSAGE_CREATE", {**message.event(), "content": "x" * _LARGE}, guild_id=guild.id)
