"""What Discord says of a sandbox's servers, as the gateway tells it: GUILD_CREATE, members, sounds."""

from .snapshots import GuildSnapshots

__all__ = ["GuildSnapshots"]
