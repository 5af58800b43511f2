"""Who answers where: production, which reads its own events, or what a developer runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DeliverPolicy

from discord_sim import SimGuild, SimMessage
from sandbox_core.subjects import DEFAULT_NAMES

from ._screen import StepFailed
from .stage import World

_ANSWERED_WITHIN = 10.0
_FOR_A_SECOND = 0.2


@asynccontextmanager
async def production(js: JetStreamContext, place: World) -> AsyncIterator[None]:
    """Greet, as production does: each hello that is among its events."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bot {place.sim.token}"}) as http:

        async def greet(message: Msg) -> None:
            written = json.loads(message.data)["d"]
            if written["content"] == "hello":
                url = f"{place.sim.api_url}/channels/{written['channel_id']}/messages"
                body = {"content": f"Hello {written['author']['username']}."}
                async with http.post(url, json=body) as answer:
                    answer.raise_for_status()

        subscription = await js.subscribe(
            DEFAULT_NAMES.production_subject("MESSAGE_CREATE"),
            cb=greet,
            ordered_consumer=True,
            deliver_policy=DeliverPolicy.NEW,
        )
        try:
            yield
        finally:
            await subscription.unsubscribe()


async def answers(place: World) -> dict[int, list[str]]:
    """Say hello in every server; return the bot's answers, by the server's id. Raises `StepFailed`."""
    sim = place.sim
    before = {message.id for guild in place.guilds for message in _written(place, guild)}
    for guild in place.guilds:
        sim.message(guild, author=place.developer, content="hello")

    def found() -> dict[int, list[str]]:
        return {
            guild.id: [each.content for each in _written(place, guild) if each.id not in before]
            for guild in place.guilds
        }

    deadline = time.monotonic() + _ANSWERED_WITHIN
    while not all(found().values()):
        if time.monotonic() > deadline:
            raise StepFailed("Not every hello was answered.")
        await asyncio.sleep(0.02)
    # Time for a second answer, which nobody may give.
    await asyncio.sleep(_FOR_A_SECOND)
    return found()


def _written(place: World, guild: SimGuild) -> list[SimMessage]:
    """What the bot wrote in a server."""
    there = place.sim.world.messages.get(guild.default_channel.id, {}).values()
    return [message for message in there if message.author is place.sim.bot_user]
