"""What tells whose a guild-less event is: its channel, or the interaction that its message answers.

An ephemeral message happens in a guild, and its MESSAGE_* events carry no guild id; they carry the flag
64, their channel, and the interaction's id in `interaction_metadata` (Discord's developer documentation,
"Message" flags and "Message Interaction Metadata"; that the guild id is missing was observed).
"""

from __future__ import annotations

from typing import Any

import msgspec

EPHEMERAL_FLAG = 64


class Hints:
    """Read of guild-less events only; None where the event does not say."""

    __slots__ = ("channel_id", "interaction_id", "is_ephemeral")

    def __init__(self, channel_id: str | None, interaction_id: str | None, is_ephemeral: bool) -> None:
        self.channel_id = channel_id
        self.interaction_id = interaction_id
        self.is_ephemeral = is_ephemeral


class _Interaction(msgspec.Struct, gc=False):
    id: str | None = None


class _Data(msgspec.Struct, gc=False):
    channel_id: str | None = None
    flags: int = 0
    interaction_metadata: _Interaction | None = None


_data = msgspec.json.Decoder(_Data).decode


def read_hints(data: msgspec.Raw) -> Hints:
    """The hints in an event's raw `d`. Raises `msgspec.MsgspecError` when they have other types."""
    read = _data(data)
    metadata = read.interaction_metadata
    return Hints(
        read.channel_id, None if metadata is None else metadata.id, bool(read.flags & EPHEMERAL_FLAG)
    )


def pick_hints(data: dict[str, Any]) -> Hints:
    """The hints in an event's decoded `d`; what has another type than it should is not there."""
    channel_id, flags, metadata = data.get("channel_id"), data.get("flags"), data.get("interaction_metadata")
    interaction_id = metadata.get("id") if isinstance(metadata, dict) else None
    return Hints(
        channel_id if isinstance(channel_id, str) else None,
        interaction_id if isinstance(interaction_id, str) else None,
        isinstance(flags, int) and bool(flags & EPHEMERAL_FLAG),
    )
