"""Discord's side of the question whose a channel is, asked of the simulator by discord.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import discord
import pytest

from discord_sim import DiscordSim
from sandbox_cogs._channels import RestChannels
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.events import DIRECT


@pytest.fixture
async def world() -> AsyncIterator[DiscordSim]:
    async with DiscordSim(record=True) as running:
        yield running


@pytest.fixture
async def channels(world: DiscordSim, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RestChannels]:
    monkeypatch.setattr(discord.http.Route, "BASE", world.api_url)
    async with discord.Client(intents=discord.Intents.none()) as client:
        await client.login(world.token)
        yield RestChannels(client.http)


async def test_a_channel_is_a_guild_s_or_a_direct_one_or_not_for_the_bot_to_know(
    world: DiscordSim, channels: RestChannels
) -> None:
    guild, left = world.add_guild("here"), world.add_guild("left", with_bot=False)
    friend = world.world.dm_channel(world.add_user("friend"))
    assert await channels.guild(str(guild.default_channel.id)) == str(guild.id)
    assert await channels.guild(str(friend.id)) == DIRECT
    assert await channels.guild(str(left.default_channel.id)) is None
    assert await channels.guild("1") is None


@pytest.mark.parametrize("status", [400, 401, 503])
async def test_an_error_says_nothing_about_the_channel(
    world: DiscordSim, channels: RestChannels, status: int
) -> None:
    channel = world.add_guild("here").default_channel
    world.fail_next("GET", f"/channels/{channel.id}", status, times=1)
    with pytest.raises(DependencyUnavailable, match="Discord"):
        await channels.guild(str(channel.id))


async def test_a_discord_that_is_gone_says_nothing_either(world: DiscordSim, channels: RestChannels) -> None:
    await world.stop()
    with pytest.raises(DependencyUnavailable, match="Discord"):
        await channels.guild("1")
