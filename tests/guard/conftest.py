"""A guard in front of a recorder that knows the places of `rig`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.guard.recorder import Answer, Recorder, recorder
from tests.guard.rig import (
    APPLICATION,
    BOT,
    C1,
    C2,
    C_DM,
    C_FOREIGN,
    FOREIGN,
    FOREIGN_TOKEN,
    G1,
    G2,
    INSIDE_TOKEN,
    INVITE,
    INVITE_FOREIGN,
    W1,
    W_FOREIGN,
    Rig,
    rig,
)


def furnish(discord: Recorder) -> None:
    """Let it know who the bot is, and where what is."""
    discord.channels |= {C1: G1, C2: G2, C_FOREIGN: FOREIGN, C_DM: None}
    discord.webhooks |= {W1: (G1, INSIDE_TOKEN), W_FOREIGN: (FOREIGN, FOREIGN_TOKEN)}
    discord.invites |= {INVITE: G1, INVITE_FOREIGN: FOREIGN}
    for path in ("/oauth2/applications/@me", "/applications/@me", f"/applications/{APPLICATION}"):
        found = {"id": APPLICATION, "name": "bot", "approximate_guild_count": 4321, "guild_id": FOREIGN}
        discord.answers["GET", path] = Answer(200, found)
    discord.answers["GET", "/users/@me"] = Answer(200, {"id": BOT, "username": "bot"})


@pytest.fixture
async def discord() -> AsyncIterator[Recorder]:
    """The Discord behind the guard."""
    async with recorder() as running:
        furnish(running)
        yield running


@pytest.fixture
async def guard(discord: Recorder, redis_url: str) -> AsyncIterator[Rig]:
    """A guard in front of it, with plenty of its share."""
    async with rig(discord.base, redis_url) as running:
        yield running
