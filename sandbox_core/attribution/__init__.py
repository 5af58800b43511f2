"""The guild of an event that names none: one cache, one look-up, and the events that wait for it."""

from .guilds import TEACHES, ChannelGuilds
from .lookup import ChannelDirectory, ChannelLookup
from .sharing import ChannelSharing
from .waiting import Attribution

__all__ = [
    "TEACHES",
    "Attribution",
    "ChannelDirectory",
    "ChannelGuilds",
    "ChannelLookup",
    "ChannelSharing",
]
