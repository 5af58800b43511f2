"""The view of gateway events: where their guild id is, and the frame that carries them."""

from .frame import DISPATCH, Frame, FrameError, read_frame
from .hints import Hints
from .owner_command import OWNER_COMMANDS, OwnerCommand, read_owner_command
from .table import CONNECTION_EVENTS, GUILD_LOCATIONS, GuildLocation, guild_location

__all__ = [
    "CONNECTION_EVENTS",
    "DISPATCH",
    "GUILD_LOCATIONS",
    "OWNER_COMMANDS",
    "Frame",
    "FrameError",
    "GuildLocation",
    "Hints",
    "OwnerCommand",
    "guild_location",
    "read_frame",
    "read_owner_command",
]
