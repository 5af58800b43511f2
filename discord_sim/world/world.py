"""Keeps everything that exists in the simulated Discord, and dispatches changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from discord_sim.commands import CommandRegistry
from discord_sim.jsontypes import Json
from discord_sim.signals import Signal
from discord_sim.snowflake import Clock, SnowflakeFactory
from discord_sim.world import shapes
from discord_sim.world.entities import DM_CHANNEL, Changed, SimChannel, SimGuild, SimMember, SimRole, SimUser
from discord_sim.world.messages import SimFile, SimMessage

Dispatcher = Callable[[str, shapes.Builder, int | None], None]

GUILD_PRESENCES = 1 << 8
LARGE_THRESHOLD = 50


def _nobody(event: str, build: shapes.Builder, guild_id: int | None) -> None:
    """Drop events as long as there is no gateway."""


class World:
    """Users, guilds, channels, messages and the one bot application.

    `application_id` is also the id of the bot user. `owner` is the name of the account that owns the
    application, `bot_name` that of the bot's account.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        application_id: int | None = None,
        owner: str = "owner",
        bot_name: str = "sandbox-bot",
    ) -> None:
        self.clock = clock
        self.snowflakes = SnowflakeFactory(clock)
        self.users: dict[int, SimUser] = {}
        self.guilds: dict[int, SimGuild] = {}
        self.channels: dict[int, SimChannel] = {}
        self.messages: dict[int, dict[int, SimMessage]] = {}
        self.nonces: dict[tuple[int, int, str], tuple[float, SimMessage]] = {}
        self.application_id = application_id or self.snowflakes.next()
        self.application_name = bot_name
        self.bot = self.add_user(bot_name, id=self.application_id, bot=True)
        self.owner = self.add_user(owner)
        self.commands = CommandRegistry(self.application_id, self.snowflakes)
        self.dispatch: Dispatcher = _nobody
        self.changed = Signal()
        self.uploads: dict[int, SimFile] = {}
        self.cdn_url = ""

    def add_user(
        self,
        name: str,
        *,
        id: int | None = None,  # noqa: A002 - Discord's own word
        bot: bool = False,
        global_name: str | None = None,
    ) -> SimUser:
        """Add an account."""
        user = SimUser(id or self.snowflakes.next(), name, global_name, bot)
        self.users[user.id] = user
        return user

    def add_guild(
        self,
        name: str,
        *,
        id: int | None = None,  # noqa: A002 - Discord's own word
        owner: SimUser | None = None,
        with_bot: bool = True,
    ) -> SimGuild:
        """Add a guild, by default with the bot in it."""
        guild = SimGuild(self, id or self.snowflakes.next_guild(), name, owner or self.owner)
        self.guilds[guild.id] = guild
        if with_bot:
            self.join_bot(guild)
        return guild

    def announce(self, event: str, guild: SimGuild, changed: Changed) -> None:
        """Dispatch an event about what changed in a guild, if the bot is in it."""
        if guild.has_bot:
            self.dispatch(event, lambda: shapes.guild_change(guild, changed), guild.id)

    def join_bot(self, guild: SimGuild) -> None:
        """Add the bot with its managed role to a guild; dispatches GUILD_CREATE."""
        if guild.has_bot:
            return
        role = SimRole(
            self.snowflakes.next(),
            self.bot.name,
            guild,
            guild.everyone.permissions,
            position=len(guild.roles),
            managed=True,
            bot_id=self.bot.id,
        )
        guild.roles[role.id] = role
        guild.members[self.bot.id] = SimMember(self.bot, guild, self.clock(), [role])
        guild.has_bot = True
        self.dispatch("GUILD_CREATE", lambda: self.guild_create(guild), guild.id)

    def remove_bot(self, guild: SimGuild) -> None:
        """Remove the bot from a guild; dispatches GUILD_DELETE."""
        if not guild.has_bot:
            return
        guild.has_bot = False
        guild.members.pop(self.bot.id, None)
        for role in [r for r in guild.roles.values() if r.bot_id == self.bot.id]:
            del guild.roles[role.id]
        self.commands.forget_guild(guild.id)
        self.dispatch("GUILD_DELETE", lambda: {"id": str(guild.id)}, guild.id)

    def bot_guilds(self) -> Iterable[SimGuild]:
        """Return the bot's guilds."""
        return (g for g in self.guilds.values() if g.has_bot)

    def guild_create(self, guild: SimGuild, intents: int = 0) -> Json:
        """Return the `d` of GUILD_CREATE for a session with these intents.

        Without the presences intent, and for large guilds, Discord sends only the bot's own member (developer
        documentation, "Guild Create").
        """
        everybody = intents & GUILD_PRESENCES and len(guild.members) <= LARGE_THRESHOLD
        members = guild.members.values() if everybody else [guild.members[self.bot.id]]
        return shapes.guild_create(guild, members)

    def dm_channel(self, user: SimUser) -> SimChannel:
        """Return the direct message channel between the bot and a user; create it if needed."""
        for channel in self.channels.values():
            if channel.type == DM_CHANNEL and channel.recipient is user:
                return channel
        channel = SimChannel(self.snowflakes.next(), DM_CHANNEL, "", recipient=user)
        self.channels[channel.id] = channel
        return channel

    def store(self, message: SimMessage) -> None:
        """Store a message, so that REST finds it."""
        self.messages.setdefault(message.channel.id, {})[message.id] = message
        if not message.ephemeral:
            message.channel.last_message_id = message.id

    def application(self) -> Json:
        """Return the bot's application as in a REST answer."""
        guilds = sum(1 for _ in self.bot_guilds())
        return shapes.application(self.application_id, self.application_name, self.bot, self.owner, guilds)
