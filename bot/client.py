"""The standalone bot: discord.py's client with the routed socket and this project's cogs."""

from __future__ import annotations

from typing import Any

import discord
import structlog
import yarl
from discord.ext import commands

from cogs.sandbox import on_tree_error, sync_commands
from sandbox_core.bootstrap import Core
from sandbox_core.event_router import GatewayIntake
from sandbox_core.metrics import Metrics
from sandbox_core.redis.gateway_sessions import GatewaySessions
from sandbox_core.settings import Settings

from .gateway import SessionBook

_log = structlog.get_logger("sandbox.bot")

EXTENSIONS = ("cogs.sandbox", "cogs.owner", "cogs.upkeep")


class SandboxBot(commands.AutoShardedBot):
    """Runs the slash commands, and routes every event of its gateway connections."""

    def __init__(self, core: Core) -> None:
        settings = core.settings
        # Otherwise every start warns that voice needs libraries which this bot has no use for.
        discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
        super().__init__(
            command_prefix=commands.when_mentioned,
            intents=intents_of(settings),
            help_command=None,
            shard_count=settings.discord_shard_count,
            **_shard_ids(settings),
            # Members and messages are the workers' business: this process keeps names and channels only.
            chunk_guilds_at_startup=False,
            # discord.py calls itself ready when no further GUILD_CREATE has come for so many seconds.
            guild_ready_timeout=0.5,
            member_cache_flags=discord.MemberCacheFlags.none(),
            max_messages=None,
            allowed_mentions=discord.AllowedMentions.none(),
        )
        if settings.discord_owner_ids:
            self.owner_ids = {int(owner_id) for owner_id in settings.discord_owner_ids}
        self.tree.error(on_tree_error)
        self.sandbox_core = core
        self.gateway_url: yarl.URL | None = None
        self.sessions = SessionBook(GatewaySessions(core.redis), core.intake, core.metrics)

    @property
    def intake(self) -> GatewayIntake:
        """Where gateway frames go."""
        return self.sandbox_core.intake

    @property
    def gateway_metrics(self) -> Metrics:
        """Where the gateway's state is counted."""
        return self.sandbox_core.metrics

    @property
    def gateway_connected(self) -> bool:
        """True while every shard of this process has an established session."""
        return self.sessions.all_connected

    async def setup_hook(self) -> None:
        """Find the gateway, load the cogs and publish the commands; runs once, after the login."""
        # With an explicit shard count discord.py would use Discord's fixed address.
        recommended, url, _ = await self.http.get_bot_gateway()
        self.gateway_url = yarl.URL(url)
        count = self.shard_count = self.shard_count or recommended
        if self.application_id is None:
            raise RuntimeError("the hook runs after the login, which tells the application")
        await self.sessions.open(self.application_id, self.shard_ids or range(count), count)
        for extension in EXTENSIONS:
            await self.load_extension(extension)
        for guild_id in self.sandbox_core.settings.discord_dev_guild_ids:
            try:
                await sync_commands(self, [guild_id])
            except discord.Forbidden:
                _log.error(
                    "commands_not_synced",
                    guild_id=guild_id,
                    hint="invite the bot to this server with the scopes bot and applications.commands",
                )


def _shard_ids(settings: Settings) -> dict[str, Any]:
    # discord.py tells "not given" from None.
    return {} if settings.discord_shard_ids is None else {"shard_ids": list(settings.discord_shard_ids)}


def intents_of(settings: Settings) -> discord.Intents:
    """All intents that need no approval, and the privileged ones the settings name."""
    intents = discord.Intents.all()
    for name in ("members", "message_content", "presences"):
        setattr(intents, name, name in settings.discord_privileged_intents)
    return intents
