"""What tells the guild of an event that names none: its channel, or the interaction its message answers.

An ephemeral message happens in a guild, and its MESSAGE_* events carry no guild id; they carry the flag
64, their channel, and the interaction's id in `interaction_metadata` (Discord's developer documentation,
"Message" flags and "Message Interaction Metadata"; that the guild id is missing was observed).
Every other guild message names its guild, so a guild-less one without the flag is a direct message. A
MESSAGE_DELETE has no flags: an ephemeral message's looks like a direct message's.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import msgspec

EPHEMERAL_FLAG = 64

DIRECT: Final = "direct"
"""Stands in place of a guild's id for a channel of direct messages."""

# DM and group DM (Discord's developer documentation, "Channel Types").
_DIRECT_CHANNELS = frozenset({1, 3})


class Place(Enum):
    """Where a guild-less event happened, as far as it is known."""

    DIRECT = "direct"
    """In no guild."""
    GUILD = "guild"
    """In some guild."""
    UNCLEAR = "unclear"
    """The event can be of either."""


class Hints:
    """Read of guild-less events only; None where the event does not say.

    `place` is what the event itself tells; whoever finds out more writes it there.
    """

    __slots__ = ("channel_id", "interaction_id", "place")

    def __init__(self, channel_id: str | None, interaction_id: str | None, place: Place) -> None:
        self.channel_id = channel_id
        self.interaction_id = interaction_id
        self.place = place


class _Interaction(msgspec.Struct, gc=False):
    id: str | None = None


class _Data(msgspec.Struct, gc=False):
    channel_id: str | None = None
    channel_type: int | None = None
    flags: int | None = None
    interaction_metadata: _Interaction | None = None


_data = msgspec.json.Decoder(_Data).decode


def read_hints(event_type: str, data: msgspec.Raw) -> Hints:
    """The hints in an event's raw `d`. Raises `msgspec.MsgspecError` when they have other types."""
    read = _data(data)
    metadata = read.interaction_metadata
    place = _place(event_type, read.channel_type, read.flags)
    return Hints(read.channel_id, None if metadata is None else metadata.id, place)


def pick_hints(event_type: str, data: dict[str, Any]) -> Hints:
    """The hints in an event's decoded `d`; what has another type than it should is not there."""
    channel_id, metadata = data.get("channel_id"), data.get("interaction_metadata")
    interaction_id = metadata.get("id") if isinstance(metadata, dict) else None
    channel_type, flags = data.get("channel_type"), data.get("flags")
    return Hints(
        channel_id if isinstance(channel_id, str) else None,
        interaction_id if isinstance(interaction_id, str) else None,
        _place(
            event_type,
            channel_type if isinstance(channel_type, int) else None,
            flags if isinstance(flags, int) else None,
        ),
    )


def _place(event_type: str, channel_type: int | None, flags: int | None) -> Place:
    if channel_type is not None:
        return Place.DIRECT if channel_type in _DIRECT_CHANNELS else Place.GUILD
    if flags is not None and flags & EPHEMERAL_FLAG:
        return Place.GUILD
    # An update may leave out what has not changed.
    if event_type == "MESSAGE_CREATE" or (event_type == "MESSAGE_UPDATE" and flags is not None):
        return Place.DIRECT
    return Place.UNCLEAR
