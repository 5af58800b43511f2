"""Which events a session's intents let through, and what they leave of a message.

From Discord's developer documentation, "Gateway" (List of Intents, Privileged Intents, Message Content).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

KNOWN = (1 << 26) - 1
"""Every intent that Discord has or had."""
GUILDS, MEMBERS, EXPRESSIONS, PRESENCES, MESSAGE_CONTENT, SCHEDULED_EVENTS = (
    1 << bit for bit in (0, 1, 3, 8, 15, 16)
)

# By prefix of the event's name: in a server, in direct messages. The first that fits decides.
_BY_PREFIX: tuple[tuple[str, int, int], ...] = (
    ("MESSAGE_POLL_VOTE_", 1 << 24, 1 << 25),
    ("MESSAGE_REACTION_", 1 << 10, 1 << 13),
    ("MESSAGE_", 1 << 9, 1 << 12),
    ("TYPING_START", 1 << 11, 1 << 14),
    ("GUILD_SCHEDULED_EVENT_", SCHEDULED_EVENTS, SCHEDULED_EVENTS),
    ("GUILD_MEMBERS_CHUNK", 0, 0),
    ("GUILD_MEMBER_", MEMBERS, MEMBERS),
    ("THREAD_MEMBERS_UPDATE", GUILDS | MEMBERS, GUILDS | MEMBERS),
    ("GUILD_BAN_", 1 << 2, 1 << 2),
    ("GUILD_AUDIT_LOG_ENTRY_CREATE", 1 << 2, 1 << 2),
    ("GUILD_EMOJIS_UPDATE", EXPRESSIONS, EXPRESSIONS),
    ("GUILD_STICKERS_UPDATE", EXPRESSIONS, EXPRESSIONS),
    ("GUILD_SOUNDBOARD_", EXPRESSIONS, EXPRESSIONS),
    ("GUILD_INTEGRATIONS_UPDATE", 1 << 4, 1 << 4),
    ("INTEGRATION_", 1 << 4, 1 << 4),
    ("WEBHOOKS_UPDATE", 1 << 5, 1 << 5),
    ("INVITE_", 1 << 6, 1 << 6),
    ("VOICE_SERVER_UPDATE", 0, 0),
    ("VOICE_", 1 << 7, 1 << 7),
    ("PRESENCE_UPDATE", PRESENCES, PRESENCES),
    ("AUTO_MODERATION_RULE_", 1 << 20, 1 << 20),
    ("AUTO_MODERATION_ACTION_EXECUTION", 1 << 21, 1 << 21),
    ("GUILD_", GUILDS, GUILDS),
    ("CHANNEL_PINS_UPDATE", GUILDS, 1 << 12),
    ("CHANNEL_", GUILDS, GUILDS),
    ("THREAD_", GUILDS, GUILDS),
    ("STAGE_INSTANCE_", GUILDS, GUILDS),
)
_MESSAGES = frozenset({"MESSAGE_CREATE", "MESSAGE_UPDATE"})
_CONTENT: dict[str, Any] = {"content": "", "embeds": [], "attachments": [], "components": []}

# Privileged intents, each with the application's flags either of which allows it.
_PRIVILEGED = (
    (PRESENCES, 1 << 12 | 1 << 13),
    (MEMBERS, 1 << 14 | 1 << 15),
    (MESSAGE_CONTENT, 1 << 18 | 1 << 19),
)


class _User(msgspec.Struct):
    id: str


class _Member(msgspec.Struct):
    user: _User


class _MemberFrame(msgspec.Struct):
    d: _Member


_MEMBER = msgspec.json.Decoder(_MemberFrame)


@lru_cache(maxsize=1024)
def needed(event: str, *, in_guild: bool) -> int:
    """Return the intents of which an event needs one; 0 for what every session gets."""
    for prefix, guild_bits, direct_bits in _BY_PREFIX:
        if event.startswith(prefix):
            return guild_bits if in_guild else direct_bits
    return 0


def lacking(intents: int, flags: int) -> int:
    """Return the privileged ones of these intents that an application with these flags may not ask for."""
    return sum(intent for intent, allowing in _PRIVILEGED if intents & intent and not flags & allowing)


OF_MEMBER = "GUILD_MEMBER_UPDATE"


def is_of_bot(frame: bytes, bot_id: str) -> bool:
    """Whether such an event is about the bot: it hears of itself without the intent for members."""
    try:
        return _MEMBER.decode(frame).d.user.id == bot_id
    except msgspec.DecodeError:
        return False


def loses_content(event: str, intents: int) -> bool:
    """Whether a session with these intents may not see the content of this event's message."""
    return event in _MESSAGES and not intents & MESSAGE_CONTENT


def without_content(frame: bytes, bot_id: str) -> bytes:
    """Return a message's frame as a session without the intent for contents gets it.

    The bot sees its own messages, those that mention it, and direct ones; these stay byte for byte.
    """
    read = msgspec.json.decode(frame)
    message = read["d"]
    if "guild_id" not in message or _is_for(bot_id, message):
        return frame
    _empty(message)
    # What it answers, or passes on, is a message as well.
    others = [message.get("referenced_message")]
    others += [each.get("message") for each in message.get("message_snapshots") or ()]
    for other in others:
        if isinstance(other, dict) and not _is_for(bot_id, other):
            _empty(other)
    return msgspec.json.encode(read)


def _is_for(bot_id: str, message: dict[str, Any]) -> bool:
    own = (message.get("author") or {}).get("id") == bot_id
    return own or any(user.get("id") == bot_id for user in message.get("mentions") or ())


def _empty(message: dict[str, Any]) -> None:
    message.update((key, value) for key, value in _CONTENT.items() if key in message)
    message.pop("poll", None)
