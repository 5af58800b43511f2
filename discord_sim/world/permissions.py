"""Permission bits, and how Discord computes what a member may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from discord_sim.world.entities import SimMember

ADMINISTRATOR = 1 << 3
MANAGE_GUILD = 1 << 5
ALL = (1 << 53) - 1

EVERYONE = (
    (1 << 0)  # create invites
    | (1 << 6)  # add reactions
    | (1 << 10)  # view channels
    | (1 << 11)  # send messages
    | (1 << 14)  # embed links
    | (1 << 15)  # attach files
    | (1 << 16)  # read message history
    | (1 << 18)  # external emojis
    | (1 << 31)  # use application commands
    | (1 << 38)  # send messages in threads
)
"""What @everyone has in a new guild."""


def member_permissions(member: SimMember) -> int:
    """Permissions of a member in the guild; channel overwrites are not simulated.

    The guild's owner and every administrator have all of them.
    """
    guild = member.guild
    if member.user is guild.owner:
        return ALL
    bits = guild.everyone.permissions
    for role in member.roles:
        bits |= role.permissions
    return ALL if bits & ADMINISTRATOR else bits
