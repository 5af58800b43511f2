"""Where each documented gateway event carries its guild's id.

Source: Discord's developer documentation, "Gateway Events", August 2026: 79 dispatch events. A nested
`guild_id` elsewhere in a frame (a reply's `message_reference`, an interaction's `data`) belongs to
somebody else and is never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class GuildLocation(Enum):
    """The only place in a frame where an event's guild id is read."""

    REQUIRED = "d.guild_id"
    """Always there: the event happens in a guild."""
    OPTIONAL = "d.guild_id?"
    """There when the event happens in a guild, absent otherwise (a direct message, say)."""
    OWN_ID = "d.id"
    """The event is about the guild itself."""
    META = "d.meta.guild_id"
    """RATE_LIMITED tells the guild in its `meta`."""
    NONE = "none"
    """The event has no guild."""


_REQUIRED = (
    "APPLICATION_COMMAND_PERMISSIONS_UPDATE",
    "AUTO_MODERATION_ACTION_EXECUTION",
    "AUTO_MODERATION_RULE_CREATE",
    "AUTO_MODERATION_RULE_DELETE",
    "AUTO_MODERATION_RULE_UPDATE",
    "CHANNEL_INFO",
    "GUILD_AUDIT_LOG_ENTRY_CREATE",
    "GUILD_BAN_ADD",
    "GUILD_BAN_REMOVE",
    "GUILD_EMOJIS_UPDATE",
    "GUILD_INTEGRATIONS_UPDATE",
    "GUILD_MEMBERS_CHUNK",
    "GUILD_MEMBER_ADD",
    "GUILD_MEMBER_REMOVE",
    "GUILD_MEMBER_UPDATE",
    "GUILD_ROLE_CREATE",
    "GUILD_ROLE_DELETE",
    "GUILD_ROLE_UPDATE",
    "GUILD_SCHEDULED_EVENT_CREATE",
    "GUILD_SCHEDULED_EVENT_DELETE",
    "GUILD_SCHEDULED_EVENT_UPDATE",
    "GUILD_SCHEDULED_EVENT_USER_ADD",
    "GUILD_SCHEDULED_EVENT_USER_REMOVE",
    "GUILD_SOUNDBOARD_SOUNDS_UPDATE",
    "GUILD_SOUNDBOARD_SOUND_DELETE",
    "GUILD_STICKERS_UPDATE",
    "INTEGRATION_CREATE",
    "INTEGRATION_DELETE",
    "INTEGRATION_UPDATE",
    "PRESENCE_UPDATE",
    "SOUNDBOARD_SOUNDS",
    "STAGE_INSTANCE_CREATE",
    "STAGE_INSTANCE_DELETE",
    "STAGE_INSTANCE_UPDATE",
    "THREAD_DELETE",
    "THREAD_LIST_SYNC",
    "THREAD_MEMBERS_UPDATE",
    "THREAD_MEMBER_UPDATE",
    "VOICE_CHANNEL_EFFECT_SEND",
    "VOICE_CHANNEL_START_TIME_UPDATE",
    "VOICE_CHANNEL_STATUS_UPDATE",
    "VOICE_SERVER_UPDATE",
    "WEBHOOKS_UPDATE",
)

_OPTIONAL = (
    "CHANNEL_CREATE",
    "CHANNEL_DELETE",
    "CHANNEL_PINS_UPDATE",
    "CHANNEL_UPDATE",
    "ENTITLEMENT_CREATE",
    "ENTITLEMENT_DELETE",
    "ENTITLEMENT_UPDATE",
    "GUILD_SOUNDBOARD_SOUND_CREATE",
    "GUILD_SOUNDBOARD_SOUND_UPDATE",
    "INTERACTION_CREATE",
    "INVITE_CREATE",
    "INVITE_DELETE",
    "MESSAGE_CREATE",
    "MESSAGE_DELETE",
    "MESSAGE_DELETE_BULK",
    "MESSAGE_POLL_VOTE_ADD",
    "MESSAGE_POLL_VOTE_REMOVE",
    "MESSAGE_REACTION_ADD",
    "MESSAGE_REACTION_REMOVE",
    "MESSAGE_REACTION_REMOVE_ALL",
    "MESSAGE_REACTION_REMOVE_EMOJI",
    "MESSAGE_UPDATE",
    "THREAD_CREATE",
    "THREAD_UPDATE",
    "TYPING_START",
    "VOICE_STATE_UPDATE",
)

_OWN_ID = (
    "GUILD_CREATE",
    "GUILD_DELETE",
    "GUILD_UPDATE",
)

_META = ("RATE_LIMITED",)

_NONE = (
    "READY",
    "RESUMED",
    "SUBSCRIPTION_CREATE",
    "SUBSCRIPTION_DELETE",
    "SUBSCRIPTION_UPDATE",
    "USER_UPDATE",
)

GUILD_LOCATIONS: Mapping[str, GuildLocation] = MappingProxyType(
    {
        **dict.fromkeys(_REQUIRED, GuildLocation.REQUIRED),
        **dict.fromkeys(_OPTIONAL, GuildLocation.OPTIONAL),
        **dict.fromkeys(_OWN_ID, GuildLocation.OWN_ID),
        **dict.fromkeys(_META, GuildLocation.META),
        **dict.fromkeys(_NONE, GuildLocation.NONE),
    }
)
"""Event name to the place of its guild id."""

CONNECTION_EVENTS = frozenset({"READY", "RESUMED"})
"""Events that belong to the gateway connection; they are not published."""


def guild_location(event_type: str) -> GuildLocation:
    """Where to read the guild id of `event_type`; an undocumented event is read at `d.guild_id`."""
    return GUILD_LOCATIONS.get(event_type, GuildLocation.OPTIONAL)
