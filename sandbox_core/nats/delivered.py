"""An event as a worker gets it from a stream."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from nats.aio.msg import Msg


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched gateway event. `raw` is Discord's frame, `data` its decoded `d`.

    `data` is None when `raw` is no frame. Only another publisher than the gateway can cause this.
    """

    type: str
    guild_id: str | None
    data: Any
    raw: bytes
    subject: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """The message's headers; with tracing on, `traceparent` is among them."""


def event_of(message: Msg) -> Event:
    """Read a message of a stream. It never raises: the events behind it must still come."""
    headers = message.headers or {}
    raw = _unpacked(message.data) if headers.get("Content-Encoding") == "gzip" else message.data
    frame = _decoded(raw)
    return Event(
        type=message.subject.rsplit(".", 1)[-1],
        guild_id=headers.get("Discord-Guild-Id"),
        data=frame.get("d") if isinstance(frame, dict) else None,
        raw=raw,
        subject=message.subject,
        headers=headers,
    )


def _unpacked(data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        # The data is damaged or was never compressed. It must not stop the events after it.
        return data


def _decoded(raw: bytes) -> Any:
    """Return the JSON in `raw`, or None when it is no JSON.

    Like the gateway it accepts strings of Discord that the strict decoder refuses: invalid UTF-8, and single
    surrogates.
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(raw.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
