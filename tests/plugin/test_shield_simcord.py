"""Where events come without frames, as under simcord, a host works on as before."""

from __future__ import annotations

import discord
import pytest
import simcord
from discord.ext import commands

from .test_shield import GATEWAY


class Host(commands.Bot):
    def __init__(self) -> None:
        super().__init__("!", intents=discord.Intents.all(), help_command=None)
        self.heard: list[str] = []

    async def on_message(self, message: discord.Message) -> None:
        self.heard.append(message.content)


@pytest.fixture
def simcord_bot() -> Host:
    return Host()


async def test_a_host_without_a_socket_hears_everything(
    environment: None, simcord_env: simcord.Env, simcord_bot: Host
) -> None:
    guild = simcord_env.create_guild("G")
    channel = guild.create_text_channel("general")
    alice = guild.add_member(simcord_env.create_user("alice"))
    await simcord_bot.load_extension(GATEWAY)
    await alice.send(channel, "hello")
    assert simcord_bot.heard == ["hello"]
    await simcord_bot.unload_extension(GATEWAY)
    await alice.send(channel, "again")
    assert simcord_bot.heard == ["hello", "again"]
