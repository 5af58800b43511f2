"""Checks a host's options: refuses those that can't work, and logs which events will be missing."""

from __future__ import annotations

from collections.abc import Mapping

import discord
import structlog

from sandbox_cogs._core import AnyBot
from sandbox_core.settings import Settings

from . import _private

_log = structlog.get_logger("sandbox.gateway")


class HostNotFit(Exception):
    """The host's options do not work with the extension; the text says what is wrong and what is right."""


# Discord's developer documentation, "List of Intents".
_BRINGS: Mapping[str, str] = {
    "moderation": "GUILD_AUDIT_LOG_ENTRY_CREATE, GUILD_BAN_ADD, GUILD_BAN_REMOVE",
    "emojis_and_stickers": "GUILD_EMOJIS_UPDATE, GUILD_STICKERS_UPDATE, GUILD_SOUNDBOARD_*",
    "integrations": "GUILD_INTEGRATIONS_UPDATE, INTEGRATION_*",
    "webhooks": "WEBHOOKS_UPDATE",
    "invites": "INVITE_CREATE, INVITE_DELETE",
    "voice_states": "VOICE_STATE_UPDATE, VOICE_CHANNEL_*",
    "guild_messages": "MESSAGE_CREATE, MESSAGE_UPDATE, MESSAGE_DELETE, MESSAGE_DELETE_BULK of servers",
    "guild_reactions": "MESSAGE_REACTION_* of servers",
    "guild_typing": "TYPING_START of servers",
    "guild_polls": "MESSAGE_POLL_VOTE_* of servers",
    "guild_scheduled_events": "GUILD_SCHEDULED_EVENT_*",
    "auto_moderation_configuration": "AUTO_MODERATION_RULE_*",
    "auto_moderation_execution": "AUTO_MODERATION_ACTION_EXECUTION",
    "dm_messages": "MESSAGE_* of direct messages, the owner's commands among them",
    "dm_reactions": "MESSAGE_REACTION_* of direct messages",
    "dm_typing": "TYPING_START of direct messages",
    "dm_polls": "MESSAGE_POLL_VOTE_* of direct messages",
}
_PRIVILEGED_BRING: Mapping[str, str] = {
    "members": "GUILD_MEMBER_ADD, GUILD_MEMBER_UPDATE, GUILD_MEMBER_REMOVE, THREAD_MEMBERS_UPDATE of others",
    "message_content": "the text, embeds, attachments, components and polls of other people's messages",
    "presences": "PRESENCE_UPDATE",
}


def check_host(bot: AnyBot, settings: Settings) -> None:
    """Log which events the host will not receive. Raises `HostNotFit` when its options can't work."""
    if not bot.intents.guilds:
        raise HostNotFit(
            "The bot has the intent `guilds` off: neither discord.py nor the routing would know its servers "
            "and channels. Give it `discord.Intents.default()`, or set `intents.guilds = True`."
        )
    _check_shards(bot, settings)
    _tell_missing_intents(bot.intents, settings)
    if not _private.has_message_cache(bot):
        # Routing never reads the message cache: the frames say enough.
        _log.info("message_cache_off", hint="routing needs none; the bot itself gets no on_message_edit")


def tell_unfit_shards(bot: AnyBot, settings: Settings) -> None:
    """Log shards that do not fit. They are known only after the connection, too late to refuse the host."""
    try:
        _check_shards(bot, settings)
    except HostNotFit as error:
        _log.error("shards_do_not_fit", reason=str(error))


def missing_intents(intents: discord.Intents, settings: Settings) -> dict[str, str]:
    """Return the intents that are off, each with the events that are missing everywhere because of it.

    A privileged intent is expected only when `DISCORD_PRIVILEGED_INTENTS` names it.
    """
    expected = dict(_BRINGS)
    expected.update((name, _PRIVILEGED_BRING[name]) for name in settings.discord_privileged_intents)
    return {name: events for name, events in expected.items() if not getattr(intents, name)}


def _tell_missing_intents(intents: discord.Intents, settings: Settings) -> None:
    for name, events in missing_intents(intents, settings).items():
        hint = "turn it on in the bot's `intents`"
        if name in _PRIVILEGED_BRING:
            hint += ", or leave it out of DISCORD_PRIVILEGED_INTENTS"
        _log.warning("intent_missing", intent=name, not_seen=events, hint=hint)


def _check_shards(bot: AnyBot, settings: Settings) -> None:
    count, ids = shards_of_host(bot)
    wanted = settings.discord_shard_count
    if wanted is not None and count is not None and count != wanted:
        raise HostNotFit(
            f"The bot has {_shards(count)} and DISCORD_SHARD_COUNT is {wanted}: events would get numbers of "
            "shards that do not exist. Use the same number for both, or leave DISCORD_SHARD_COUNT out: then "
            "your bot's own `shard_count` decides."
        )
    named = settings.discord_shard_ids
    if named is not None and ids is not None and sorted(named) != ids:
        raise HostNotFit(
            f"The bot runs shard {_listed(ids)} and DISCORD_SHARD_IDS says {_listed(sorted(named))}. Use "
            "the same numbers for both, or leave DISCORD_SHARD_IDS out: then your bot's own `shard_ids` "
            "decide."
        )
    if named is None and count is not None and ids is not None and len(ids) < count:
        _log.warning(
            "shards_of_others",
            shards=ids,
            shard_count=count,
            hint="the other shards' events are routed only where a process runs them with this extension",
        )


def shards_of_host(bot: AnyBot) -> tuple[int | None, list[int] | None]:
    """Return the number of shards and the ids that the host runs; None when Discord decides it later."""
    if not isinstance(bot, discord.AutoShardedClient):
        return bot.shard_count or 1, [bot.shard_id or 0]
    count: int | None = bot.shard_count
    named: list[int] | None = bot.shard_ids
    if named is None and count is None:
        return None, None
    return count, sorted(range(count or 0) if named is None else named)


def _shards(count: int) -> str:
    return "1 shard" if count == 1 else f"{count} shards"


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids)) or "none"
