"""The events of a stream as sessions send them."""

from __future__ import annotations

from typing import NamedTuple

from sandbox_core.nats.delivered import unpacked
from sandbox_core.nats.message_ids import Content
from sandbox_core.nats.stream_reader import Stored

from .frames import Divided, divide


class StreamEvent(NamedTuple):
    """An event in a sandbox's stream."""

    position: int
    type: str
    guild_id: str | None
    frame: Divided
    stored_at: float


def event_of(stored: Stored) -> StreamEvent | None:
    """Return the event; None for whatever else JetStream was made to store there."""
    content = stored.content
    event = content.header("Discord-Event")
    frame = None if event is None else divide(_frame(content))
    if event is None or frame is None:
        return None
    guild_id = content.header("Discord-Guild-Id")
    return StreamEvent(stored.position, event, guild_id, frame, content.stored_at)


def _frame(content: Content) -> bytes:
    """Return the frame, which is compressed where it would have been too large for the NATS server."""
    encoding = content.header("Content-Encoding")
    return content.payload if encoding is None else unpacked(content.payload, {"Content-Encoding": encoding})
