"""Sandboxes by convention have streams in one account: each client still gets its own events only."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from discord_sim import DiscordSim
from sandbox_bot.tour.stage import default_settings

from .raw import connected
from .stage import BOB, Stage, staged
from .test_resume import contents


@pytest.fixture
async def shared(sim: DiscordSim, database_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Stage]:
    guilds = [sim.add_guild(f"guild-{number}") for number in range(3)]
    settings = default_settings(
        database_url=database_url,
        redis_url=redis_url,
        nats_url=nats_url,
        sandbox_isolation="convention",
        sandbox_credentials_key="k" * 32,
        discord_token=sim.token,
        discord_api_url=sim.api_url,
    )
    async with staged(settings, sim, guilds) as made:
        yield made


async def test_events_and_resumes(shared: Stage) -> None:
    process, other = await shared.start(), await shared.start()
    ours, theirs, nobodys = shared.guilds
    mine = await shared.sandbox("mine", ours)
    their = await shared.sandbox("their", theirs, owner=BOB)
    token = shared.token(mine)
    async with connected(process) as raw, connected(process) as neighbour:
        await raw.identify(token)
        await neighbour.identify(shared.token(their))
        for number in range(30):
            for guild in shared.guilds:
                shared.sim.message(guild, content=f"{guild.name} {number}")
        found = await raw.until_content(f"{ours.name} 29")
        assert contents(found) == [f"{ours.name} {number}" for number in range(30)]
        assert [each["s"] for each in found] == list(range(3, 33))
        assert len(contents(await neighbour.until_content(f"{theirs.name} 29"))) == 30
    async with connected(other) as again:
        await again.resume(token, raw.session_id, 12)
        assert contents(await again.until_event("RESUMED")) == [f"{ours.name} {n}" for n in range(10, 30)]
        assert nobodys.name not in "".join(text.decode() for text in again.texts)
