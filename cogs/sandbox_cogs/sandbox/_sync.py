"""Publishes `/sandbox` to Discord, and no other command."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from sandbox_cogs._core import AnyBot, core_of

from ._group import SandboxCommands

_log = structlog.get_logger("sandbox.discord")


async def sync_commands(bot: AnyBot, guild_ids: Iterable[str] | None = None) -> None:
    """Publish `/sandbox` in these guilds (by default the dev guilds) without changing other commands.

    discord.py's `tree.sync` replaces all commands of a guild, and so deletes commands of other workers of
    the same application. This request creates or updates one command ("Create Guild Application Command" in
    Discord's documentation). The bot must be logged in.
    Raises `discord.HTTPException` when Discord refuses, for instance in a guild without the bot.
    """
    if bot.application_id is None:
        raise RuntimeError("commands can be published only after the bot has logged in")
    group = SandboxCommands(core_of(bot))
    translator = bot.tree.translator
    if translator is None:
        payload = group.to_dict(bot.tree)
    else:
        payload = await group.get_translated_payload(bot.tree, translator)
    wanted = core_of(bot).settings.discord_dev_guild_ids if guild_ids is None else guild_ids
    for guild_id in wanted:
        await bot.http.upsert_guild_command(bot.application_id, int(guild_id), payload)
        _log.info("commands_synced", guild_id=guild_id)
