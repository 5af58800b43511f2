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

from sandbox_core.strangers import UNREADABLE


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched gateway event. `raw` is Discord's frame, `data` its decoded `d`.

    `data` is None when `raw` is no frame, which only another publisher than the gateway can cause, or is
    nested deeper than Python's parser goes, some thousand levels.
    """

    type: str
    guild_id: str | None
    data: Any
    raw: bytes
    subject: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """The message's headers; with tracing on, `traceparent` is among them."""
    delivery: int = 1
    """Which delivery of the event this is; fetching in advance may count as one."""


def event_of(message: Msg) -> Event:
    """Read a message of a consumer. It never raises: the events behind it must still come."""
    headers = message.headers or {}
    raw = unpacked(message.data, headers)
    frame = _decoded(raw)
    return Event(
        type=message.subject.rsplit(".", 1)[-1],
        guild_id=headers.get("Discord-Guild-Id"),
        data=frame.get("d") if isinstance(frame, dict) else None,
        raw=raw,
        subject=message.subject,
        headers=headers,
        delivery=message.metadata.num_delivered,
    )


def unpacked(data: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a message's payload, decompressed if its headers say that it is compressed."""
    if headers.get("Content-Encoding") != "gzip":
        return data
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
    except UNREADABLE:
        pass
    try:
        return json.loads(raw.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
