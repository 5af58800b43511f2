"""A stored event as a person looks at it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import msgspec

from sandbox_core.nats.delivered import unpacked
from sandbox_core.nats.message_ids import Content
from sandbox_core.nats.stream_reader import Stored
from sandbox_core.nats.wire import MESSAGE_ID
from sandbox_core.strangers import UNREADABLE

_LINE = re.compile(r"^([^:\s]+): ?(.*)$", re.MULTILINE)
_OF_CHANNELS = ("CHANNEL_", "THREAD_")
"""Events whose `d` is a channel, apart from a few that name one."""


@dataclass(frozen=True)
class SeenEvent:
    """One event in a stream. Only the bot writes such headers, but a frame is what anybody may have typed."""

    id: int
    """Its number in the stream."""
    type: str
    headers: Mapping[str, str]
    frame: bytes = field(repr=False)
    """What Discord sent, decompressed."""
    stored_at: datetime

    @property
    def message_id(self) -> str:
        """The `Nats-Msg-Id`."""
        return self.headers.get(MESSAGE_ID, "")

    @property
    def guild_id(self) -> str | None:
        """The server that it is of."""
        return self.headers.get("Discord-Guild-Id")

    @property
    def origin(self) -> str:
        """`emitted` or `replayed`; "" for an event of Discord's."""
        return self.headers.get("Sandbox-Origin", "")

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """The frame's `d`; empty where there is none that can be read."""
        return _object(_object(_decoded(self.frame)).get("d"))

    def texts(self) -> Iterator[str]:
        r"""Yield the frame as text, and its `d` with `é` where the frame has `\u00e9`."""
        yield self.frame.decode(errors="replace")
        if b"\\u" in self.frame:
            # Too deep to be written: its own text has to do.
            with suppress(ValueError, RecursionError):
                yield json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))

    @property
    def channel_id(self) -> str | None:
        """The channel that it happened in, or is of."""
        named = self.data.get("channel_id")
        if named is None and self.type.startswith(_OF_CHANNELS):
            named = self.data.get("id")
        return named if isinstance(named, str) else None

    @property
    def user(self) -> Mapping[str, Any]:
        """Who did it, as far as Discord says; perhaps only the id."""
        data = self.data
        for found in (data.get("author"), data.get("user"), _object(data.get("member")).get("user")):
            if isinstance(found, Mapping) and isinstance(found.get("id"), str):
                return found
        user_id = data.get("user_id", data.get("creator_id", data.get("inviter_id")))
        return {"id": user_id} if isinstance(user_id, str) else {}


def seen(stored: Stored) -> SeenEvent | None:
    """Return the event; None for whatever else JetStream was made to store there."""
    content = stored.content
    headers = _headers(content)
    if "Discord-Event" not in headers:
        return None
    return SeenEvent(
        stored.position,
        headers["Discord-Event"],
        headers,
        unpacked(content.payload, headers),
        datetime.fromtimestamp(content.stored_at, UTC),
    )


def _headers(content: Content) -> dict[str, str]:
    text = content.headers.decode(errors="replace").replace("\r\n", "\n")
    return dict(_LINE.findall(text))


def _decoded(frame: bytes) -> Any:
    # As lenient as the gateway, which takes strings that are no UTF-8.
    try:
        return msgspec.json.decode(frame)
    except UNREADABLE:
        pass
    try:
        return json.loads(frame.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
