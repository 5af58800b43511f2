"""A local Discord for offline runs, tests and benchmarks of a bot.

It serves REST and gateway over real HTTP and WebSocket on the loopback interface. Client libraries connect,
resume and answer interactions as with Discord:

    async with DiscordSim() as sim:
        alice = sim.add_user("alice")
        guild = sim.add_guild("Dev", owner=alice)
        ...  # start a bot with sim.api_url and sim.gateway_url
        await sim.wait_connected()
        result = await sim.slash(alice, guild.default_channel, "ping")
        assert result.content == "pong"
"""

from discord_sim.errors import (
    SimBadOption,
    SimError,
    SimForbidden,
    SimNotConnected,
    SimTimeout,
    SimUnknownCommand,
)
from discord_sim.flood import FloodReport
from discord_sim.frames import Frame
from discord_sim.gateway import IdentifyRecord, ResumeRecord
from discord_sim.rest.routing import RecordedRequest
from discord_sim.results import InteractionResult
from discord_sim.session import GatewaySession
from discord_sim.sim import DiscordSim
from discord_sim.world import SimChannel, SimGuild, SimMember, SimMessage, SimRole, SimUser

__all__ = [
    "DiscordSim",
    "FloodReport",
    "Frame",
    "GatewaySession",
    "IdentifyRecord",
    "InteractionResult",
    "RecordedRequest",
    "ResumeRecord",
    "SimBadOption",
    "SimChannel",
    "SimError",
    "SimForbidden",
    "SimGuild",
    "SimMember",
    "SimMessage",
    "SimNotConnected",
    "SimRole",
    "SimTimeout",
    "SimUnknownCommand",
    "SimUser",
]
