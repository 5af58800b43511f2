"""The view of gateway events: where their guild id is, and the frame that carries them."""

from .frame import DISPATCH, Frame, FrameError, is_own_interaction, read_frame
from .hints import DIRECT, Hints, Place
from .owner_command import OWNER_COMMANDS, OwnerCommand, read_owner_command
from .ready import Ready, read_ready
from .shallow import shallow
from .table import CONNECTION_EVENTS, GUILD_LOCATIONS, GuildLocation, guild_location

__all__ = [
    "CONNECTION_EVENTS",
    "DIRECT",
    "DISPATCH",
    "GUILD_LOCATIONS",
    "OWNER_COMMANDS",
    "Frame",
    "FrameError",
    "GuildLocation",
    "Hints",
    "OwnerCommand",
    "Place",
    "Ready",
    "guild_location",
    "is_own_interaction",
    "read_frame",
    "read_owner_command",
    "read_ready",
    "shallow",
]
