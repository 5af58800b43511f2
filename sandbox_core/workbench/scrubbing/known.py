"""What may stay in an event as it is: values whose key and form say that nobody has written them.

Whatever is not here is replaced, also in events and fields that Discord adds later.
"""

from __future__ import annotations

import re

_NUMBERS = """
op s v type version style format_type channel_type entity_type event_type trigger_type action_type
privacy_level status context opcode hub_type join_source_type target_type layout_type metadata_type
rule_trigger_type animation_type animation_id answer_id component_type premium_type sort_order
default_sort_order default_forum_layout video_quality_mode verification_level nsfw_level mfa_level
explicit_content_filter default_message_notifications premium_tier expire_behavior presets frequency
interval by_weekday by_month by_month_day by_year_day day n spacing row id

flags public_flags system_channel_flags system_channel_disabled_flags sku_flags

position count uses max_uses max_age member_count message_count total_message_sent user_count bitrate
user_limit rate_limit_per_user default_thread_rate_limit_per_user auto_archive_duration
default_auto_archive_duration afk_timeout approximate_member_count approximate_presence_count max_members
max_presences max_video_channel_users max_stage_video_channel_users premium_subscription_count
attachment_size_limit chunk_index chunk_count total_months retry_after min_values max_values min_length
max_length mention_total_limit duration_seconds expire_grace_period volume shard normal burst width height
duration_secs
"""
COUNTED = frozenset(_NUMBERS.split())
"""Keys of numbers that stay: enumerations, then bits, then counts, positions and limits."""

LEAST_ID = 10**14
"""From here on a number is an id."""
_LOCALE = re.compile(r"[a-z]{2}(?:-[A-Z0-9]{2,3})?")
_BITS = re.compile(r"[0-9]{1,20}")
_WORD = re.compile(r"[a-z][a-z_]{0,31}")
_PRESENCE = re.compile(r"online|idle|dnd|offline|invisible")
_EMOJI = re.compile(
    # Symbols and pictures with what joins and colours them, and keycaps; no letter of any script.
    r"(?:[\u2190-\u2bff\u3030\u303d\u3297\u3299\u00a9\u00ae\u203c\u2049\u2122\u2139\ufe0f\u200d\u20e3"
    r"\U0001f000-\U0001faff\U000e0020-\U000e007f]|[0-9#*](?=\ufe0f?\u20e3)){1,32}"
)
_FORMS = {
    "permissions": _BITS,
    "permissions_new": _BITS,
    "app_permissions": _BITS,
    "allow": _BITS,
    "allow_new": _BITS,
    "deny": _BITS,
    "deny_new": _BITS,
    "locale": _LOCALE,
    "guild_locale": _LOCALE,
    "preferred_locale": _LOCALE,
    "features": re.compile(r"[A-Z][A-Z0-9_]{1,63}"),
    "scopes": re.compile(r"bot|applications\.commands"),
    "type": _WORD,
    "key": re.compile(r"\$?[a-z][a-z_]{0,63}"),
    "region": re.compile(r"deprecated"),
    "content_type": re.compile(
        r"(?:application|audio|image|text|video)/[a-z0-9.+-]{1,40}(?:; charset=utf-8)?"
    ),
    "status": _PRESENCE,
    "desktop": _PRESENCE,
    "mobile": _PRESENCE,
    "web": _PRESENCE,
    "emoji_name": _EMOJI,
    "unicode_emoji": _EMOJI,
}
_NAME_OF_KEY = re.compile(r"[a-z_$][a-z0-9_]{0,63}|[0-9]{1,3}")


def number_stays(key: str, value: float) -> bool:
    """Return whether a number is an enumeration, bits, a count or a position; 0 tells nothing anywhere."""
    return value == 0 or (key in COUNTED and abs(value) < LEAST_ID)


def text_stays(key: str, within: str, value: str) -> bool:
    """Return whether a string is of a kind that Discord has made; `within` is the key of its object."""
    form = _EMOJI if (within, key) == ("emoji", "name") else _FORMS.get(key)
    return form is not None and form.fullmatch(value) is not None


def key_stays(key: str) -> bool:
    """Return whether a key looks like those that Discord documents."""
    return _NAME_OF_KEY.fullmatch(key) is not None
