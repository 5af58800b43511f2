"""An event as JSON, for programs; pure. `docs/cli.md` documents the keys."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from .seen import SeenEvent
from .summary import Names, who, words

Json = dict[str, Any]


def as_json(event: SeenEvent, names: Names) -> Json:
    """The object of an event; `frame` is null when it is no JSON."""
    return {
        "id": str(event.id),
        "type": event.type,
        "stored_at": event.stored_at.astimezone(UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "message_id": event.message_id or None,
        "guild_id": event.guild_id,
        "guild": _known(names.guilds, event.guild_id),
        "channel_id": event.channel_id,
        "channel": _known(names.channels, event.channel_id),
        "user_id": event.user.get("id"),
        "user": who(event) or None,
        "words": words(event) or None,
        "bytes": len(event.frame),
        "origin": event.origin or None,
        "headers": dict(event.headers),
        "frame": parsed(event.frame),
    }


def _known(names: dict[str, str], key: str | None) -> str | None:
    return None if key is None else names.get(key)


def parsed(frame: bytes) -> Any:
    """The frame's JSON; None when it is none."""
    try:
        return json.loads(frame)
    except (ValueError, RecursionError):
        return None
