"""One of each event that happens in a guild, in an order in which discord.py can make something of each."""

from __future__ import annotations

from typing import Any

from discord_sim import DiscordSim, SimGuild, SimUser

STAMP = "2026-01-01T00:00:00.000000+00:00"


def stir(sim: DiscordSim, guild: SimGuild, user: SimUser) -> list[str]:
    """Send them; returns the events' names. The user is no member before, and none afterwards."""
    names: list[str] = []
    me = str(sim.bot_user.id)
    guild_id, user_id = str(guild.id), str(user.id)
    account = {
        "id": user_id,
        "username": user.name,
        "discriminator": "0",
        "avatar": None,
        "global_name": None,
    }
    member = {"user": account, "roles": [], "joined_at": STAMP, "deaf": False, "mute": False, "flags": 0}
    channel_id = str(guild.default_channel.id)
    number = sim.world.snowflakes.next
    message_id, thread_id, role_id, made_id, voice_id, event_id, stage_id, sound_id, rule_id = (
        str(number()) for _ in range(9)
    )

    def emit(name: str, /, **data: Any) -> None:
        names.append(name)
        sim.emit(name, {"guild_id": guild_id, **data}, guild_id=guild.id)

    def message(content: str) -> dict[str, Any]:
        return {
            "id": message_id,
            "channel_id": channel_id,
            "author": account,
            "member": {key: value for key, value in member.items() if key != "user"},
            "content": content,
            "timestamp": STAMP,
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [],
            "mention_roles": [],
            "attachments": [],
            "embeds": [],
            "pinned": False,
            "type": 0,
            "flags": 0,
            "poll": {
                "question": {"text": "?"},
                "answers": [{"answer_id": 1, "poll_media": {"text": "yes"}}],
                "expiry": STAMP,
                "allow_multiselect": False,
                "layout_type": 1,
            },
        }

    emit("GUILD_MEMBER_ADD", **member)
    emit("GUILD_MEMBER_UPDATE", **member, nick="Nick")
    emit("PRESENCE_UPDATE", user={"id": user_id}, status="online", activities=[], client_status={})
    emit("MESSAGE_CREATE", **message("hello"))
    emit("MESSAGE_UPDATE", **message("edited"))
    reaction = {
        "user_id": user_id,
        "channel_id": channel_id,
        "message_id": message_id,
        "emoji": {"id": None, "name": "x"},
        "burst": False,
        "type": 0,
    }
    emit("MESSAGE_REACTION_ADD", **reaction, member=member)
    emit("MESSAGE_REACTION_REMOVE", **reaction)
    emit("MESSAGE_REACTION_ADD", **reaction, member=member)
    emit(
        "MESSAGE_REACTION_REMOVE_EMOJI",
        channel_id=channel_id,
        message_id=message_id,
        emoji=reaction["emoji"],
    )
    emit("MESSAGE_REACTION_REMOVE_ALL", channel_id=channel_id, message_id=message_id)
    vote = {"user_id": user_id, "channel_id": channel_id, "message_id": message_id, "answer_id": 1}
    emit("MESSAGE_POLL_VOTE_ADD", **vote)
    emit("MESSAGE_POLL_VOTE_REMOVE", **vote)
    emit("MESSAGE_DELETE", id=message_id, channel_id=channel_id)
    emit("MESSAGE_CREATE", **message("again"))
    emit("MESSAGE_DELETE_BULK", ids=[message_id], channel_id=channel_id)
    emit("TYPING_START", channel_id=channel_id, user_id=user_id, timestamp=1_700_000_000, member=member)
    made = {"id": made_id, "name": "made", "position": 9, "permission_overwrites": [], "nsfw": False}
    voice = {**made, "id": voice_id, "name": "voice", "bitrate": 64000, "user_limit": 0, "type": 2}
    emit("CHANNEL_CREATE", **made, type=0)
    emit("CHANNEL_CREATE", **voice)
    emit("CHANNEL_UPDATE", **{**made, "name": "renamed"}, type=0)
    emit("CHANNEL_PINS_UPDATE", channel_id=channel_id, last_pin_timestamp=STAMP)
    emit("WEBHOOKS_UPDATE", channel_id=channel_id)
    emit("INVITE_CREATE", channel_id=channel_id, code="abc", created_at=STAMP, max_age=0, max_uses=0, uses=0)
    emit("INVITE_DELETE", channel_id=channel_id, code="abc")
    state = {"user_id": user_id, "session_id": "s", "member": member, "deaf": False, "mute": False}
    flags = {"self_deaf": False, "self_mute": False, "self_video": False, "suppress": False}
    emit("VOICE_STATE_UPDATE", **state, **flags, channel_id=voice_id, request_to_speak_timestamp=None)
    emit("VOICE_CHANNEL_EFFECT_SEND", channel_id=voice_id, user_id=user_id)
    emit("VOICE_STATE_UPDATE", **state, **flags, channel_id=None, request_to_speak_timestamp=None)
    emit("VOICE_SERVER_UPDATE", token="t", endpoint="example.invalid")
    thread = {
        "id": thread_id,
        "parent_id": channel_id,
        "owner_id": user_id,
        "name": "thread",
        "type": 11,
        "last_message_id": None,
        "message_count": 0,
        "member_count": 1,
        "rate_limit_per_user": 0,
        "thread_metadata": {
            "archived": False,
            "auto_archive_duration": 60,
            "archive_timestamp": STAMP,
            "locked": False,
        },
    }
    emit("THREAD_CREATE", **thread, newly_created=True)
    emit("THREAD_UPDATE", **{**thread, "name": "renamed"})
    joined = {"id": thread_id, "user_id": user_id, "join_timestamp": STAMP, "flags": 0}
    emit("THREAD_MEMBER_UPDATE", **{**joined, "user_id": me})
    emit("THREAD_MEMBERS_UPDATE", id=thread_id, member_count=2, added_members=[joined])
    emit("THREAD_MEMBERS_UPDATE", id=thread_id, member_count=1, removed_member_ids=[user_id])
    emit("THREAD_DELETE", id=thread_id, parent_id=channel_id, type=11)
    emit("THREAD_LIST_SYNC", threads=[thread], members=[])
    emit("CHANNEL_DELETE", **made, type=0)
    emit("CHANNEL_DELETE", **voice)
    role = {
        "id": role_id,
        "name": "role",
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "position": 1,
        "permissions": "0",
        "managed": False,
        "mentionable": False,
        "flags": 0,
    }
    emit("GUILD_ROLE_CREATE", role=role)
    emit("GUILD_ROLE_UPDATE", role={**role, "name": "renamed"})
    emit("GUILD_ROLE_DELETE", role_id=role_id)
    emoji = {"id": made_id, "name": "emoji", "roles": [], "managed": False, "animated": False}
    emit("GUILD_EMOJIS_UPDATE", emojis=[{**emoji, "available": True, "require_colons": True}])
    emit("GUILD_STICKERS_UPDATE", stickers=[])
    emit("GUILD_INTEGRATIONS_UPDATE")
    integration = {
        "id": made_id,
        "name": "i",
        "type": "discord",
        "enabled": True,
        "account": {"id": "1", "name": "a"},
        "application": {"id": made_id, "name": "a", "icon": None, "description": "", "summary": ""},
    }
    emit("INTEGRATION_CREATE", **integration)
    emit("INTEGRATION_UPDATE", **integration)
    emit("INTEGRATION_DELETE", id=made_id)
    stage = {
        "id": stage_id,
        "channel_id": channel_id,
        "topic": "t",
        "privacy_level": 2,
        "discoverable_disabled": False,
    }
    emit("STAGE_INSTANCE_CREATE", **stage)
    emit("STAGE_INSTANCE_UPDATE", **{**stage, "topic": "u"})
    emit("STAGE_INSTANCE_DELETE", **stage)
    event = {
        "id": event_id,
        "channel_id": None,
        "creator_id": user_id,
        "name": "event",
        "scheduled_start_time": STAMP,
        "scheduled_end_time": STAMP,
        "privacy_level": 2,
        "status": 1,
        "entity_type": 3,
        "entity_id": None,
        "entity_metadata": {"location": "here"},
        "user_count": 0,
    }
    emit("GUILD_SCHEDULED_EVENT_CREATE", **event)
    emit("GUILD_SCHEDULED_EVENT_UPDATE", **{**event, "name": "renamed"})
    emit("GUILD_SCHEDULED_EVENT_USER_ADD", guild_scheduled_event_id=event_id, user_id=user_id)
    emit("GUILD_SCHEDULED_EVENT_USER_REMOVE", guild_scheduled_event_id=event_id, user_id=user_id)
    emit("GUILD_SCHEDULED_EVENT_DELETE", **event)
    sound = {
        "sound_id": sound_id,
        "name": "sound",
        "volume": 1.0,
        "emoji_id": None,
        "emoji_name": None,
        "available": True,
    }
    emit("GUILD_SOUNDBOARD_SOUND_CREATE", **sound)
    emit("GUILD_SOUNDBOARD_SOUND_UPDATE", **{**sound, "name": "renamed"})
    emit("GUILD_SOUNDBOARD_SOUNDS_UPDATE", soundboard_sounds=[sound])
    emit("GUILD_SOUNDBOARD_SOUND_DELETE", sound_id=sound_id)
    rule = {
        "id": rule_id,
        "name": "rule",
        "creator_id": user_id,
        "event_type": 1,
        "trigger_type": 3,
        "trigger_metadata": {},
        "actions": [],
        "enabled": True,
        "exempt_roles": [],
        "exempt_channels": [],
    }
    emit("AUTO_MODERATION_RULE_CREATE", **rule)
    emit("AUTO_MODERATION_RULE_UPDATE", **rule)
    emit(
        "AUTO_MODERATION_ACTION_EXECUTION",
        action={"type": 1, "metadata": {}},
        rule_id=rule_id,
        rule_trigger_type=3,
        user_id=user_id,
        channel_id=channel_id,
        content="",
        matched_keyword=None,
        matched_content="",
    )
    emit("AUTO_MODERATION_RULE_DELETE", **rule)
    emit("GUILD_AUDIT_LOG_ENTRY_CREATE", id=made_id, action_type=22, user_id=user_id, target_id=user_id)
    emit("APPLICATION_COMMAND_PERMISSIONS_UPDATE", id=made_id, application_id=me, permissions=[])
    entitlement = {
        "id": made_id,
        "sku_id": made_id,
        "application_id": me,
        "user_id": user_id,
        "type": 8,
        "deleted": False,
        "starts_at": None,
        "ends_at": None,
    }
    emit("ENTITLEMENT_CREATE", **entitlement)
    emit("ENTITLEMENT_UPDATE", **entitlement)
    emit("ENTITLEMENT_DELETE", **entitlement)
    emit("GUILD_BAN_ADD", user=account)
    emit("GUILD_BAN_REMOVE", user=account)
    emit("GUILD_MEMBER_REMOVE", user=account)
    whole = sim.world.guild_create(guild)
    for name, data in (
        ("GUILD_UPDATE", {**whole, "name": f"{guild.name} renamed"}),
        ("GUILD_DELETE", {"id": guild_id, "unavailable": True}),
        ("GUILD_CREATE", whole),
    ):
        names.append(name)
        sim.emit(name, data)
    return names
