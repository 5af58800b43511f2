"""Whether a host's options let it route events: what can't work is refused, what will be missing is said."""

from __future__ import annotations

from collections.abc import Mapping

import discord
import structlog

from sandbox_cogs._core import AnyBot
from sandbox_core.settings import Settings

from . import _private

_log = structlog.get_logger("sandbox.gateway")


class HostNotFit(Exception):
    """The host's options don't go with the extension; the text says what is wrong and what is right."""


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
    """Log what the host will not bring. Raises `HostNotFit` when it can't work as it is."""
    if not bot.intents.guilds:
        raise HostNotFit(
            "The bot has the intent `guilds` off: neither discord.py nor the routing would know its servers "
            "and channels. Give it `discord.Intents.default()`, or set `intents.guilds = True`."
        )
    _check_shards(bot, settings)
    _tell_missing_intents(bot.intents, settings)
    if not _private.has_message_cache(bot):
        # Nothing here reads the cache: events are routed by what their frames say.
        _log.info("message_cache_off", hint="routing needs none; the bot itself gets no on_message_edit")


def tell_unfit_shards(bot: AnyBot, settings: Settings) -> None:
    """The shards are known only now, and it is too late to refuse the host: log it."""
    try:
        _check_shards(bot, settings)
    except HostNotFit as error:
        _log.error("shards_do_not_fit", reason=str(error))


def missing_intents(intents: discord.Intents, settings: Settings) -> dict[str, str]:
    """The intents that are off, and the events that so nobody gets, neither production nor a sandbox.

    Of the privileged ones only those that `DISCORD_PRIVILEGED_INTENTS` names are expected.
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
            f"The bot has {_shards(count)} and DISCORD_SHARD_COUNT is {wanted}: events would be told under "
            "shards that do not exist. Give both the same number, or leave DISCORD_SHARD_COUNT out: in a bot "
            "of your own, its own `shard_count` decides."
        )
    named = settings.discord_shard_ids
    if named is not None and ids is not None and sorted(named) != ids:
        raise HostNotFit(
            f"The bot runs shard {_listed(ids)} and DISCORD_SHARD_IDS says {_listed(sorted(named))}. Give "
            "both the same numbers, or leave DISCORD_SHARD_IDS out: in a bot of your own, its own "
            "`shard_ids` decide."
        )
    if named is None and count is not None and ids is not None and len(ids) < count:
        _log.warning(
            "shards_of_others",
            shards=ids,
            shard_count=count,
            hint="the other shards' events are routed only where a process runs them with this extension",
        )


def shards_of_host(bot: AnyBot) -> tuple[int | None, list[int] | None]:
    """How many shards there are and which the host runs; None where Discord is asked at the connection."""
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
