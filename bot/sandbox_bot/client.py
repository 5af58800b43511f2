"""The standalone bot: discord.py's client with the routed socket and this project's cogs."""

from __future__ import annotations

import asyncio
import math

import aiohttp
import discord
import structlog
import yarl
from discord.ext import commands

from sandbox_cogs._answers import is_discords, retry_after_of
from sandbox_cogs._channels import RestChannels
from sandbox_cogs.sandbox import on_tree_error, sync_commands
from sandbox_core.addresses import discord_where
from sandbox_core.bootstrap import Core
from sandbox_core.event_router import GatewayIntake
from sandbox_core.metrics import Metrics
from sandbox_core.settings import Settings

from .gateway import CompressionChoice, Gateway, GatewayTuning, SessionBook

_log = structlog.get_logger("sandbox.bot")

_DISCORD_AWAY = (
    OSError,
    TimeoutError,
    aiohttp.ClientError,
    discord.DiscordServerError,
    discord.GatewayNotFound,
    discord.RateLimited,
)
_LOGIN_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)

EXTENSIONS = ("sandbox_cogs.sandbox", "sandbox_cogs.owner", "sandbox_cogs.upkeep")


class SandboxBot(commands.AutoShardedBot):
    """Runs the slash commands, and routes every event of its gateway connections."""

    def __init__(self, core: Core, tuning: GatewayTuning | None = None) -> None:
        settings = core.settings
        # Otherwise every start warns that voice needs libraries which this bot has no use for.
        discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
        super().__init__(
            command_prefix=commands.when_mentioned,
            intents=intents_of(settings),
            help_command=None,
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
        self.tuning = tuning or GatewayTuning()
        """The gateway's times."""
        self.compression = CompressionChoice()
        """What its connections ask for."""
        core.channels.directory = RestChannels(self.http)
        self._gateway: Gateway | None = None
        self._login_trouble = "not connected to Discord"
        self.sessions = SessionBook(
            core.resume_points,
            core.intake,
            core.metrics,
            stored=core.stored_events,
            trust=core.publisher.trust,
        )

    @property
    def intake(self) -> GatewayIntake:
        """Where gateway frames go."""
        return self.sandbox_core.intake

    @property
    def gateway_metrics(self) -> Metrics:
        """Where the gateway's state is counted."""
        return self.sandbox_core.metrics

    @property
    def has_gateway(self) -> bool:
        """True after the login."""
        return self._gateway is not None

    @property
    def gateway(self) -> Gateway:
        """The gateway; there is one after the login."""
        if self._gateway is None:
            raise RuntimeError("the gateway is known after the login")
        return self._gateway

    @property
    def gateway_url(self) -> yarl.URL:
        """Where new sessions begin."""
        return self.gateway.url

    @property
    def gateway_trouble(self) -> str:
        """Why a shard of this process has no session at the moment; "" when all have."""
        return self._login_trouble if self._gateway is None else self._gateway.trouble

    @property
    def standing_by(self) -> bool:
        """True when other processes have all the shards."""
        return self._gateway is not None and self._gateway.standing_by

    @property
    def gateway_latency(self) -> float | None:
        """Seconds from the last heartbeat to its acknowledgement, on the slowest connection that stands.

        None while none of them was acknowledged: the first one may be sent a whole interval after the start.
        """
        known = [s for shard, s in self.latencies if self.sessions.is_connected(shard) and math.isfinite(s)]
        return max(known, default=None)

    async def login(self, token: str) -> None:
        """Log in; while Discord is away, try again.

        Raises `discord.LoginFailure` when Discord refuses the token.
        """
        attempt = 0
        where = discord_where(discord.http.Route.BASE)
        self._login_trouble = f"not connected to Discord: {where} has not answered yet"
        while True:
            try:
                return await super().login(token)
            except (*_DISCORD_AWAY, discord.HTTPException, discord.LoginFailure) as error:
                answer = error.__cause__ if isinstance(error, discord.LoginFailure) else error
                retry_after = 0.0
                reason = f"it can't be reached at {where} ({type(error).__name__})"
                if isinstance(answer, discord.HTTPException):
                    if is_discords(answer) and not isinstance(answer, discord.DiscordServerError):
                        # Discord's own word, such as that the token is wrong: waiting mends nothing.
                        raise
                    reason = f"{where} answered with status {answer.status}"
                    retry_after = retry_after_of(answer)
            self._login_trouble = f"not connected to Discord: {reason}"
            _log.warning("waiting_for_dependency", dependency="Discord", reason=reason)
            # Each login makes a session of its own, which takes its connector along when it is closed.
            await self.http.close()
            self.http.connector = discord.utils.MISSING
            pause = _LOGIN_PAUSES[min(attempt, len(_LOGIN_PAUSES) - 1)]
            await asyncio.sleep(max(pause, retry_after))
            attempt += 1

    async def setup_hook(self) -> None:
        """Find the gateway, load the cogs and publish the commands.

        Runs after the login, and again when the network failed in the middle of it.
        """
        if self.application_id is None:
            raise RuntimeError("the hook runs after the login, which tells the application")
        if self._gateway is None:
            gateway = await Gateway.ask(self, self.application_id)
            await self.sessions.open(self.application_id, (), 1)
            self._gateway = gateway
        for extension in EXTENSIONS:
            if extension not in self.extensions:
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

    async def connect(self, *, reconnect: bool = True) -> None:
        """Run this process's shards, in place of discord.py's fixed list.

        Raises `GatewayRefusedError` when Discord refuses one for good.
        """
        await self.gateway.run()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Wait for the shard's turn among all processes."""
        await self.gateway.turns.take(shard_id or 0)

    async def close(self) -> None:
        """Close everything; sessions stay resumable."""
        if self._gateway is not None:
            await self._gateway.stop()
            await self._gateway.leave()
        await super().close()


def intents_of(settings: Settings) -> discord.Intents:
    """All intents that need no approval, and the privileged ones the settings name."""
    intents = discord.Intents.all()
    for name in ("members", "message_content", "presences"):
        setattr(intents, name, name in settings.discord_privileged_intents)
    return intents
