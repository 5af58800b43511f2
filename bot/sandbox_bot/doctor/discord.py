"""Checks Discord: the token, the intents, the dev servers and their commands, and the session limit."""

from __future__ import annotations

from typing import Any

from sandbox_core.settings import Settings
from sandbox_core.words import counted

from ..discord_rest import DiscordRest, TokenRefusedError, discord_rest
from .findings import Look

# Application flags, from Discord's developer documentation (resource "Application"): each intent has one
# flag for applications that Discord has approved, and one for those in fewer than 100 servers.
_INTENT_FLAGS = {
    "presences": (1 << 12) | (1 << 13),
    "members": (1 << 14) | (1 << 15),
    "message_content": (1 << 18) | (1 << 19),
}
# With the permission View Channels, as in the README's invitation.
_INVITE = "https://discord.com/oauth2/authorize?client_id={}&scope=bot+applications.commands&permissions=1024"


async def look_at_discord(settings: Settings, look: Look) -> None:
    """Check the application. Whether its owners accept direct messages is unknown until one is sent."""
    if settings.discord_token is None:
        look.note("DISCORD_TOKEN is not set", "`run` and `register-guild` need it.")
        return
    async with discord_rest(settings) as discord:
        try:
            application = await discord.get("/applications/@me")
        except TokenRefusedError as error:
            look.failed("the token is refused", str(error))
            return
        if application is None:
            look.failed("the token belongs to no application", "Set DISCORD_TOKEN to a bot's token.")
            return
        look.ok(f"the token belongs to {application['name']}")
        _intents(settings, look, application)
        await _dev_guilds(settings, look, discord, str(application["id"]))
        await _sessions(look, discord)


def _intents(settings: Settings, look: Look, application: Any) -> None:
    flags = int(application.get("flags") or 0)
    for intent in settings.discord_privileged_intents:
        granted = bool(flags & _INTENT_FLAGS[intent])
        look.judge(
            granted,
            f"the intent {intent} is on" if granted else f"the intent {intent} is not on",
            "Turn it on in the application's settings (Bot, Privileged Gateway Intents), or take it out "
            "of DISCORD_PRIVILEGED_INTENTS.",
        )


async def _dev_guilds(settings: Settings, look: Look, discord: DiscordRest, application_id: str) -> None:
    if not settings.discord_dev_guild_ids:
        look.failed("DISCORD_DEV_GUILD_IDS is not set", "Name the servers that get the /sandbox commands.")
    invite = _INVITE.format(application_id)
    for guild_id in settings.discord_dev_guild_ids:
        if await discord.get(f"/guilds/{guild_id}") is None:
            look.failed(
                f"the bot is not in the dev server {guild_id}",
                "Invite it there with the scopes bot and applications.commands:",
                [f"{invite}&guild_id={guild_id}"],
            )
        elif await discord.get(f"/applications/{application_id}/guilds/{guild_id}/commands") is None:
            look.failed(
                f"the bot may have no commands in the dev server {guild_id}",
                "Invite it there once more, with the scope applications.commands:",
                [f"{invite}&guild_id={guild_id}"],
            )
        else:
            look.ok(f"the bot is in the dev server {guild_id}, and may have its commands there")


async def _sessions(look: Look, discord: DiscordRest) -> None:
    gateway = await discord.get("/gateway/bot")
    limit = (gateway or {}).get("session_start_limit") or {}
    remaining, shards = limit.get("remaining"), int((gateway or {}).get("shards") or 1)
    if remaining is None or remaining >= shards:
        return
    hours = int(limit.get("reset_after") or 0) / 3_600_000
    look.failed(
        f"{remaining} gateway sessions may be started today, for {counted(shards, 'shard', 'shards')}",
        f"Wait: the limit starts again in {hours:.1f} hours. A session that can be resumed needs none.",
    )
