"""Finds the intents that an event needs (developer documentation, "List of Intents")."""

from __future__ import annotations

from discord_sim.jsontypes import Json

GUILDS = 1 << 0
MESSAGE_CONTENT = 1 << 15
CONTENT_FIELDS = ("embeds", "attachments", "components")

# By prefix of the event name: (in a guild, in direct messages). First match wins.
_BY_PREFIX: tuple[tuple[str, int, int], ...] = (
    ("MESSAGE_POLL_VOTE_", 1 << 24, 1 << 25),
    ("MESSAGE_REACTION_", 1 << 10, 1 << 13),
    ("MESSAGE_", 1 << 9, 1 << 12),
    ("TYPING_START", 1 << 11, 1 << 14),
    ("GUILD_SCHEDULED_EVENT_", 1 << 16, 1 << 16),
    ("GUILD_MEMBERS_CHUNK", 0, 0),
    ("GUILD_MEMBER_", 1 << 1, 1 << 1),
    ("THREAD_MEMBERS_UPDATE", 1 << 1, 1 << 1),
    ("GUILD_BAN_", 1 << 2, 1 << 2),
    ("GUILD_AUDIT_LOG_ENTRY_CREATE", 1 << 2, 1 << 2),
    ("GUILD_EMOJIS_UPDATE", 1 << 3, 1 << 3),
    ("GUILD_STICKERS_UPDATE", 1 << 3, 1 << 3),
    ("GUILD_SOUNDBOARD_", 1 << 3, 1 << 3),
    ("GUILD_INTEGRATIONS_UPDATE", 1 << 4, 1 << 4),
    ("INTEGRATION_", 1 << 4, 1 << 4),
    ("WEBHOOKS_UPDATE", 1 << 5, 1 << 5),
    ("INVITE_", 1 << 6, 1 << 6),
    ("VOICE_SERVER_UPDATE", 0, 0),
    ("VOICE_", 1 << 7, 1 << 7),
    ("PRESENCE_UPDATE", 1 << 8, 1 << 8),
    ("AUTO_MODERATION_RULE_", 1 << 20, 1 << 20),
    ("AUTO_MODERATION_ACTION_EXECUTION", 1 << 21, 1 << 21),
    ("GUILD_", GUILDS, GUILDS),
    ("CHANNEL_", GUILDS, GUILDS),
    ("THREAD_", GUILDS, GUILDS),
    ("STAGE_INSTANCE_", GUILDS, GUILDS),
)


def needed_intent(event: str, *, in_guild: bool) -> int:
    """Return the intent bit that an event needs; 0 for events that every session receives."""
    for prefix, guild_bit, direct_bit in _BY_PREFIX:
        if event.startswith(prefix):
            return guild_bit if in_guild else direct_bit
    return 0


def filtered(event: str, body: Json, intents: int, bot_id: int) -> Json | None:
    """Return what a session with these intents gets: the body, a reduced body, or None.

    Without the message content intent a message's text is empty, except in direct messages, messages of the
    bot, and messages that mention the bot.
    """
    needed = needed_intent(event, in_guild="guild_id" in body)
    if needed and not intents & needed:
        return None
    if event not in ("MESSAGE_CREATE", "MESSAGE_UPDATE") or intents & MESSAGE_CONTENT:
        return body
    me = str(bot_id)
    own = body.get("author", {}).get("id") == me
    mentioned = any(user.get("id") == me for user in body.get("mentions") or ())
    if "guild_id" not in body or own or mentioned:
        return body
    return {**body, "content": "", **{key: [] for key in CONTENT_FIELDS}}
