"""Users, guilds, roles, channels and members.

A change of a guild while a bot is connected dispatches the event that Discord would send. Entities compare by
identity; their ids are integers here and strings in JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from discord_sim.errors import SimError
from discord_sim.snowflake import Clock, SnowflakeFactory
from discord_sim.world.permissions import ADMINISTRATOR, ALL, EVERYONE

TEXT_CHANNEL = 0
DM_CHANNEL = 1


@dataclass(eq=False)
class SimUser:
    """A Discord account."""

    id: int
    name: str
    global_name: str | None = None
    bot: bool = False


@dataclass(eq=False)
class SimRole:
    """A role of a guild; `permissions` is Discord's bit set."""

    id: int
    name: str
    guild: SimGuild
    permissions: int = 0
    position: int = 1
    managed: bool = False
    bot_id: int | None = None


@dataclass(eq=False)
class SimChannel:
    """A guild channel, or a direct message channel when `guild` is None."""

    id: int
    type: int
    name: str
    guild: SimGuild | None = None
    recipient: SimUser | None = None
    position: int = 0
    topic: str | None = None
    parent_id: int | None = None
    last_message_id: int | None = None


@dataclass(eq=False)
class SimMember:
    """A user's membership in one guild."""

    user: SimUser
    guild: SimGuild
    joined_at: float
    roles: list[SimRole] = field(default_factory=list)
    nick: str | None = None

    @property
    def permissions(self) -> int:
        """The member's permission bits; channel overwrites are not simulated.

        The guild's owner and every administrator have all of them.
        """
        if self.user is self.guild.owner:
            return ALL
        bits = self.guild.everyone.permissions
        for role in self.roles:
            bits |= role.permissions
        return ALL if bits & ADMINISTRATOR else bits


class Surroundings(Protocol):
    """What a guild needs of the world that contains it."""

    clock: Clock
    snowflakes: SnowflakeFactory
    channels: dict[int, SimChannel]

    def join_bot(self, guild: SimGuild) -> None:
        """Add the bot to a guild."""

    def remove_bot(self, guild: SimGuild) -> None:
        """Remove the bot from a guild."""

    def announce(self, event: str, guild: SimGuild, changed: Changed) -> None:
        """Dispatch `event` about what changed in a guild, if the bot is in it."""


class SimGuild:
    """A server. `DiscordSim.add_guild` creates it."""

    def __init__(self, world: Surroundings, guild_id: int, name: str, owner: SimUser) -> None:
        self._world = world
        self.id = guild_id
        self.name = name
        self.owner = owner
        self.created_at = world.clock()
        self.has_bot = False
        # False: the bot was invited without the scope applications.commands.
        self.takes_commands = True
        self.roles: dict[int, SimRole] = {}
        self.channels: dict[int, SimChannel] = {}
        self.members: dict[int, SimMember] = {}
        # Discord gives @everyone the id of the guild itself.
        self.everyone = SimRole(guild_id, "@everyone", self, EVERYONE, position=0)
        self.roles[guild_id] = self.everyone
        self.default_channel = self.add_channel("general")
        self.add_member(owner)

    def __repr__(self) -> str:
        return f"<SimGuild {self.id} {self.name!r}>"

    def add_channel(
        self,
        name: str,
        *,
        id: int | None = None,  # noqa: A002 - Discord's own word
        type: int = TEXT_CHANNEL,  # noqa: A002 - Discord's own word
        topic: str | None = None,
    ) -> SimChannel:
        """Add a channel; dispatches CHANNEL_CREATE."""
        channel = SimChannel(
            id or self._world.snowflakes.next(),
            type,
            name,
            guild=self,
            position=len(self.channels),
            topic=topic,
        )
        self.channels[channel.id] = channel
        self._world.channels[channel.id] = channel
        self._world.announce("CHANNEL_CREATE", self, channel)
        return channel

    def remove_channel(self, channel: SimChannel) -> None:
        """Delete a channel; dispatches CHANNEL_DELETE."""
        del self.channels[channel.id]
        self._world.channels.pop(channel.id, None)
        self._world.announce("CHANNEL_DELETE", self, channel)

    def add_role(
        self,
        name: str,
        permissions: int = 0,
        *,
        id: int | None = None,  # noqa: A002 - Discord's own word
    ) -> SimRole:
        """Add a role with a permission bit set; dispatches GUILD_ROLE_CREATE."""
        role = SimRole(id or self._world.snowflakes.next(), name, self, permissions, position=len(self.roles))
        self.roles[role.id] = role
        self._world.announce("GUILD_ROLE_CREATE", self, role)
        return role

    def edit_role(self, role: SimRole, permissions: int) -> None:
        """Change a role's permissions; dispatches GUILD_ROLE_UPDATE."""
        role.permissions = permissions
        self._world.announce("GUILD_ROLE_UPDATE", self, role)

    def add_member(
        self,
        user: SimUser,
        *,
        roles: Iterable[SimRole] = (),
        permissions: int | None = None,
        nick: str | None = None,
    ) -> SimMember:
        """Add a member, or change one; dispatches GUILD_MEMBER_ADD or GUILD_MEMBER_UPDATE.

        `roles` replace earlier roles. `permissions` is a bit set for this member alone; it becomes a new
        role, because Discord grants permissions only by roles.
        """
        wanted = list(roles)
        if permissions is not None:
            wanted.append(self.add_role(f"{user.name}'s permissions", permissions))
        member = self.members.get(user.id)
        if member is None:
            member = SimMember(user, self, self._world.clock(), wanted, nick)
            self.members[user.id] = member
            event = "GUILD_MEMBER_ADD"
        else:
            member.roles, member.nick = wanted, nick
            event = "GUILD_MEMBER_UPDATE"
        self._world.announce(event, self, member)
        return member

    def remove_member(self, user: SimUser) -> None:
        """Remove a member; dispatches GUILD_MEMBER_REMOVE."""
        if self.members.pop(user.id, None) is None:
            raise SimError(f"{user.name} is not a member of {self.name}")
        self._world.announce("GUILD_MEMBER_REMOVE", self, user)

    def rename(self, name: str) -> None:
        """Change the name; dispatches GUILD_UPDATE."""
        self.name = name
        self._world.announce("GUILD_UPDATE", self, self)

    def add_bot(self) -> None:
        """Let the bot join; dispatches GUILD_CREATE."""
        self._world.join_bot(self)

    def remove_bot(self) -> None:
        """Remove the bot; dispatches GUILD_DELETE, and REST then refuses this guild."""
        self._world.remove_bot(self)

    def set_unavailable(self) -> None:
        """Simulate an outage of this guild; dispatches GUILD_DELETE with `unavailable`."""
        self._world.announce("GUILD_DELETE", self, None)


Changed = SimGuild | SimChannel | SimRole | SimMember | SimUser | None
"""What changed in a guild; None: the guild became unavailable."""
