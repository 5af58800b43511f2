"""The users, guilds, channels and messages of the simulated Discord."""

from discord_sim.world.entities import SimChannel, SimGuild, SimMember, SimRole, SimUser
from discord_sim.world.messages import SimMessage
from discord_sim.world.world import World

__all__ = ["SimChannel", "SimGuild", "SimMember", "SimMessage", "SimRole", "SimUser", "World"]
