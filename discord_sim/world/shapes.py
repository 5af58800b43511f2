"""Builds the JSON of entities.

The fields in REST answers and in gateway events follow Discord's developer documentation and its OpenAPI
description. Ids are strings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from discord_sim.jsontypes import Json
from discord_sim.snowflake import isoformat
from discord_sim.world.entities import Changed, SimChannel, SimGuild, SimMember, SimRole, SimUser

Builder = Callable[[], Json]
"""Builds an event's `d`; called only when a session receives the event."""


def user(entity: SimUser) -> Json:
    """A user, as other users see it."""
    return {
        "id": str(entity.id),
        "username": entity.name,
        "global_name": entity.global_name,
        "discriminator": "0" if not entity.bot else "0001",
        "avatar": None,
        "avatar_decoration_data": None,
        "collectibles": None,
        "primary_guild": None,
        "bot": entity.bot,
        "system": False,
        "public_flags": 0,
        "flags": 0,
        "banner": None,
        "accent_color": None,
    }


def self_user(entity: SimUser) -> Json:
    """The bot's own account."""
    return {
        **user(entity),
        "mfa_enabled": False,
        "locale": "en-US",
        "verified": True,
        "email": None,
        "premium_type": 0,
    }


def role(entity: SimRole) -> Json:
    """A role of a guild."""
    shape: Json = {
        "id": str(entity.id),
        "name": entity.name,
        "permissions": str(entity.permissions),
        "position": entity.position,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "managed": entity.managed,
        "mentionable": False,
        "icon": None,
        "unicode_emoji": None,
        "flags": 0,
    }
    if entity.bot_id is not None:
        shape["tags"] = {"bot_id": str(entity.bot_id)}
    return shape


def channel(entity: SimChannel) -> Json:
    """A guild channel or a direct message channel."""
    last = None if entity.last_message_id is None else str(entity.last_message_id)
    if entity.guild is None:
        return {
            "id": str(entity.id),
            "type": entity.type,
            "last_message_id": last,
            "flags": 0,
            "recipients": [] if entity.recipient is None else [user(entity.recipient)],
        }
    shape: Json = {
        "id": str(entity.id),
        "type": entity.type,
        "guild_id": str(entity.guild.id),
        "name": entity.name,
        "position": entity.position,
        "flags": 0,
        "parent_id": None if entity.parent_id is None else str(entity.parent_id),
        "last_message_id": last,
        "rate_limit_per_user": 0,
        "topic": entity.topic,
        "permission_overwrites": [],
        "nsfw": False,
    }
    if entity.type == 2:
        shape |= {"bitrate": 64000, "user_limit": 0, "rtc_region": None}
    return shape


def member(entity: SimMember, *, with_user: bool = True) -> Json:
    """A member; message events contain it without the `user`."""
    shape: Json = {
        "roles": [str(r.id) for r in entity.roles],
        "nick": entity.nick,
        "avatar": None,
        "banner": None,
        "joined_at": isoformat(entity.joined_at),
        "premium_since": None,
        "deaf": False,
        "mute": False,
        "flags": 0,
        "pending": False,
        "communication_disabled_until": None,
    }
    if with_user:
        shape["user"] = user(entity.user)
    return shape


def guild(entity: SimGuild, *, counts: bool = False) -> Json:
    """A guild as in a REST answer; `counts` adds the approximate counts."""
    shape: Json = {
        "id": str(entity.id),
        "name": entity.name,
        "icon": None,
        "description": None,
        "home_header": None,
        "splash": None,
        "discovery_splash": None,
        "features": [],
        "banner": None,
        "owner_id": str(entity.owner.id),
        "application_id": None,
        "region": "deprecated",
        "afk_channel_id": None,
        "afk_timeout": 300,
        "system_channel_id": None,
        "system_channel_flags": 0,
        "widget_enabled": False,
        "widget_channel_id": None,
        "verification_level": 0,
        "roles": [role(r) for r in entity.roles.values()],
        "default_message_notifications": 1,
        "mfa_level": 0,
        "explicit_content_filter": 0,
        "max_presences": None,
        "max_members": 25_000_000,
        "max_stage_video_channel_users": 50,
        "max_video_channel_users": 25,
        "vanity_url_code": None,
        "premium_tier": 0,
        "premium_subscription_count": 0,
        "preferred_locale": "en-US",
        "rules_channel_id": None,
        "safety_alerts_channel_id": None,
        "public_updates_channel_id": None,
        "premium_progress_bar_enabled": False,
        "nsfw": False,
        "nsfw_level": 0,
        "emojis": [],
        "stickers": [],
        "incidents_data": None,
    }
    if counts:
        shape["approximate_member_count"] = len(entity.members)
        shape["approximate_presence_count"] = len(entity.members)
    return shape


def guild_create(entity: SimGuild, members: Iterable[SimMember]) -> Json:
    """The `d` of GUILD_CREATE: the guild with channels and some members."""
    return {
        **guild(entity),
        "joined_at": isoformat(entity.created_at),
        "large": len(entity.members) > 250,
        "unavailable": False,
        "member_count": len(entity.members),
        "voice_states": [],
        "members": [member(m) for m in members],
        # The gateway omits guild_id inside a guild's own channel list.
        "channels": [
            {k: v for k, v in channel(c).items() if k != "guild_id"} for c in entity.channels.values()
        ],
        "threads": [],
        "presences": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
        "embedded_activities": [],
        "activity_instances": [],
        "version": 1,
    }


def guild_change(entity: SimGuild, changed: Changed) -> Json:
    """The `d` of an event about a change in a guild."""
    guild_id = str(entity.id)
    match changed:
        case SimChannel():
            return channel(changed)
        case SimRole():
            return {"guild_id": guild_id, "role": role(changed)}
        case SimMember():
            return {**member(changed), "guild_id": guild_id}
        case SimUser():
            return {"guild_id": guild_id, "user": user(changed)}
        case SimGuild():
            return guild(changed)
        case None:
            return {"id": guild_id, "unavailable": True}


# An application in fewer than 100 servers with all privileged intents on: presences, members and
# message content (developer documentation, resource "Application", flags).
_INTENTS_ON = (1 << 13) | (1 << 15) | (1 << 19)


def application(app_id: int, name: str, bot: SimUser, owner: SimUser, guilds: int) -> Json:
    """The bot's application."""
    return {
        "id": str(app_id),
        "name": name,
        "icon": None,
        "description": "",
        "summary": "",
        "type": None,
        "bot": user(bot),
        "bot_public": False,
        "bot_require_code_grant": False,
        "integration_types_config": {"0": {"oauth2_install_params": {"scopes": ["bot"], "permissions": "0"}}},
        "verify_key": "0" * 64,
        "flags": _INTENTS_ON,
        "flags_new": str(_INTENTS_ON),
        "redirect_uris": [],
        "interactions_endpoint_url": None,
        "role_connections_verification_url": None,
        "owner": user(owner),
        "approximate_guild_count": guilds,
        "approximate_user_install_count": 0,
        "approximate_user_authorization_count": 0,
        "event_webhooks_url": None,
        "event_webhooks_status": 1,
        "event_webhooks_types": [],
        "explicit_content_filter": 0,
        "team": None,
        "eligible_oauth2_scopes": [],
    }
