"""What Discord says of a sandbox's servers, as the gateway tells it: GUILD_CREATE, members, sounds."""

from .listing import GuildLists
from .snapshots import GuildSnapshots

__all__ = ["GuildLists", "GuildSnapshots"]
