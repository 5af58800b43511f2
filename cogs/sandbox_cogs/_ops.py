"""The ops endpoint of a host's bot. It exists when `OPS_PORT` is set."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol, cast

import discord
import structlog

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

    from ._core import AnyBot

_log = structlog.get_logger("sandbox.bot")


class _Publishes(Protocol):
    """What the ops endpoint asks the cog of `sandbox_cogs.gateway`, if that is loaded."""

    @property
    def gateway_trouble(self) -> str: ...

    @property
    def standing_by(self) -> bool: ...


class HostGateway:
    """The state of the host's gateway connections, and whether this process publishes their events."""

    def __init__(self, bot: AnyBot) -> None:
        self._bot = bot

    @property
    def _publishing(self) -> _Publishes | None:
        # By its name: a reload of the extension creates a new class.
        return cast("_Publishes | None", self._bot.get_cog("GatewayListener"))

    @property
    def gateway_trouble(self) -> str:
        """Say why a shard of the host is not connected; "" when all are connected."""
        bot = self._bot
        if bot.is_closed():
            return "the bot is closed"
        if isinstance(bot, discord.AutoShardedClient):
            away = [shard_id for shard_id, shard in bot.shards.items() if shard.is_closed()]
            if away:
                return f"not connected to Discord: shard {', '.join(map(str, away))}"
            connected = bool(bot.shards)
        else:
            socket: discord.gateway.DiscordWebSocket | None = bot.ws
            connected = socket is not None and socket.open
        if not connected:
            return "not connected to Discord"
        return "" if self._publishing is None else self._publishing.gateway_trouble

    @property
    def standing_by(self) -> bool:
        """Return whether other processes publish all of the host's shards."""
        return self._publishing is not None and self._publishing.standing_by

    @property
    def gateway_latency(self) -> float | None:
        """Seconds from the last heartbeat to its acknowledgement; None before the first."""
        latency = self._bot.latency
        return latency if math.isfinite(latency) else None


@asynccontextmanager
async def ops_endpoint(bot: AnyBot, core: Core) -> AsyncIterator[None]:
    """Serve the ops endpoint on `OPS_HOST` and `OPS_PORT`; do nothing when the port is not set.

    Raises `OpsAddressError` when it can't listen on that address.
    """
    settings = core.settings
    # The default port is for the standalone bot. A host opens a port only when its settings say so.
    if "ops_port" not in settings.model_fields_set:
        yield
        return
    # Imported here: a host without the endpoint does not need the HTTP server.
    from sandbox_core.ops import Readiness, ops_server  # noqa: PLC0415

    readiness = Readiness()
    readiness.attach(core, HostGateway(bot))
    versions = {"version": version("discord-server-sandboxes"), "discord.py": discord.__version__}
    async with ops_server(
        settings.ops_host, settings.ops_port, readiness, core.metrics.registry, versions
    ) as server:
        _log.info("ops_listening", url=server.url)
        try:
            yield
        finally:
            readiness.detach()
