"""Discord, told by the simulator: token, intents, dev servers, their commands, and sessions that are left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from discord_sim import DiscordSim
from sandbox_bot.doctor import State
from sandbox_bot.doctor.discord import look_at_discord
from sandbox_bot.doctor.findings import Look
from sandbox_core.settings import load_settings
from tests.doctor.conftest import Found

LookAt = Callable[..., Awaitable[Found]]
_SERVERS = {"database_url": "postgresql://h/d", "redis_url": "redis://h", "nats_url": "nats://h"}


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    async with DiscordSim() as running:
        yield running


@pytest.fixture
def look_at(sim: DiscordSim) -> LookAt:
    """What is found with the simulator's token, and `settings`."""

    async def look_at(**settings: str | None) -> Found:
        given = {"discord_token": sim.token, "discord_api_url": sim.api_url, **_SERVERS, **settings}
        look = Look("Discord", "discord")
        await look_at_discord(load_settings(_env_file=None, **given), look)
        return Found(tuple(look.found))

    return look_at


async def test_a_bot_in_its_dev_server_is_well(sim: DiscordSim, look_at: LookAt) -> None:
    dev = sim.add_guild("dev")
    found = await look_at(discord_dev_guild_ids=str(dev.id))
    found.well()
    assert f"the bot is in the dev server {dev.id}, and may have its commands there" in found.text


async def test_a_bot_that_is_not_there_or_may_have_no_commands(sim: DiscordSim, look_at: LookAt) -> None:
    outside, silent = sim.add_guild("outside", with_bot=False), sim.add_guild("silent")
    silent.takes_commands = False
    found = await look_at(discord_dev_guild_ids=f"{outside.id},{silent.id}")
    absent, mute = found.wrong
    assert absent.detail == f"the bot is not in the dev server {outside.id}"
    assert mute.detail == f"the bot may have no commands in the dev server {silent.id}"
    for finding, guild in ((absent, outside), (mute, silent)):
        (invitation,) = finding.commands
        assert invitation.startswith("https://discord.com/oauth2/authorize?client_id=")
        assert f"client_id={sim.world.application_id}&" in invitation
        assert "scope=bot+applications.commands" in invitation
        assert invitation.endswith(f"&guild_id={guild.id}")


async def test_a_token_that_is_missing_or_refused(look_at: LookAt, sim: DiscordSim) -> None:
    refused = (await look_at(discord_token="another")).only()
    assert refused.detail == "the token is refused"
    missing = await look_at(discord_token=None)
    assert [finding.state for finding in missing.findings] == [State.NOTE]


async def test_no_dev_server_is_named(look_at: LookAt) -> None:
    assert (await look_at()).only().detail == "DISCORD_DEV_GUILD_IDS is not set"


async def test_no_session_is_left(sim: DiscordSim, look_at: LookAt) -> None:
    dev = sim.add_guild("dev")
    sim.rules.session_starts_left = 0
    finding = (await look_at(discord_dev_guild_ids=str(dev.id))).only()
    assert finding.detail == "0 gateway sessions may be started today, for 1 shard"
    assert "24.0 hours" in finding.mend
