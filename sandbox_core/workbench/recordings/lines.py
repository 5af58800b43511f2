"""A recording as lines of JSON: the first says what it is, each other one is an event.

    {"recording": 1, "name": "…", "began": "…", "ended": "…", "events": 2, "scrubbed": false}
    {"at": 1.5, "type": "MESSAGE_CREATE", "guild_id": "…", "headers": {…}, "frame": {…}}

A frame that JSON would give back with other bytes is `frame_base64` instead.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from sandbox_core.errors import DoesNotFit
from sandbox_core.nats.dead_letters import ORIGIN
from sandbox_core.strangers import UNREADABLE
from sandbox_core.subjects import is_event_type, is_guild_id
from sandbox_core.workbench.emitting import guild_of
from sandbox_core.workbench.scrubbing import without_tokens
from sandbox_core.workbench.seen import SeenEvent

VERSION = 1
LONGEST = 32 * 1024 * 1024
"""How long a line may be."""
_OWN_HEADERS = ("Discord-Shard", ORIGIN)
_VALUE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_FURTHEST = 400 * 24 * 3600.0
_RIGHT = "sandboxctl recordings export writes such a file."


@dataclass(frozen=True, slots=True)
class About:
    """The first line."""

    name: str
    began: datetime
    ended: datetime | None
    events: int
    scrubbed: bool

    def encode(self) -> bytes:
        """Return the line, without its end."""
        return _dumps(
            {
                "recording": VERSION,
                "name": self.name,
                "began": _iso(self.began),
                "ended": None if self.ended is None else _iso(self.ended),
                "events": self.events,
                "scrubbed": self.scrubbed,
            }
        )


def line_of(event: SeenEvent, began: datetime) -> bytes:
    """Return the event's line, without its end. Secrets of interactions do not get into it."""
    frame = without_tokens(event.frame, event.type)
    line: dict[str, Any] = {
        "at": round((event.stored_at - began).total_seconds(), 6),
        "type": event.type,
        "guild_id": event.guild_id,
        "headers": {name: event.headers[name] for name in _OWN_HEADERS if name in event.headers},
    }
    parsed = _if_the_same(frame)
    if parsed is None:
        return _dumps(line | {"frame_base64": base64.b64encode(frame).decode()})
    return _dumps(line | {"frame": parsed})


def event_of(line: bytes, number: int, began: datetime) -> SeenEvent:
    """Return the event of a line that this module has written."""
    return _event(msgspec.json.decode(line), number, began)


def checked_about(line: bytes) -> About:
    """Return what the first line of a file says. Raises `DoesNotFit`."""
    read = _object(line, 1)
    try:
        if read["recording"] != VERSION:
            raise ValueError
        ended = read.get("ended")
        return About(
            str(read.get("name", "")),
            datetime.fromisoformat(read["began"]).astimezone(UTC),
            None if ended is None else datetime.fromisoformat(ended).astimezone(UTC),
            int(read.get("events", 0)),
            read.get("scrubbed") is True,
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _wrong(1, "it is not the first line of a recording") from None


def checked_event(line: bytes, number: int, began: datetime) -> SeenEvent:
    """Return the event of line `number` + 1 of a file. Raises `DoesNotFit`."""
    at = number + 1
    read = _object(line, at)
    when, kind, guild_id, headers = (read.get(each) for each in ("at", "type", "guild_id", "headers"))
    if isinstance(when, bool) or not isinstance(when, int | float) or not abs(when) < _FURTHEST:
        raise _wrong(at, "its at is no number of seconds")
    if not isinstance(kind, str) or not is_event_type(kind):
        raise _wrong(at, "its type is none")
    if guild_id is not None and not (isinstance(guild_id, str) and is_guild_id(guild_id)):
        raise _wrong(at, "its guild_id is no server's id")
    if not isinstance(headers, dict) or not all(
        name in _OWN_HEADERS and isinstance(value, str) and _VALUE.match(value)
        for name, value in headers.items()
    ):
        raise _wrong(at, f"its headers may be {' and '.join(_OWN_HEADERS)} alone")
    if ("frame" in read) == ("frame_base64" in read):
        raise _wrong(at, "it has not one of frame and frame_base64")
    try:
        event = _event(read, number, began)
    except (binascii.Error, ValueError, TypeError, *UNREADABLE):
        raise _wrong(at, "its frame is none") from None
    # One that names no server may have been found to be of one.
    named = guild_of(kind, dict(event.data)) if event.data.keys() & {"guild_id", "id", "meta"} else None
    if named is not None and named != guild_id:
        raise _wrong(at, "its frame is of another server than its guild_id")
    return event


def _event(read: Mapping[str, Any], number: int, began: datetime) -> SeenEvent:
    headers = {"Discord-Event": read["type"], **read["headers"]}
    if read["guild_id"] is not None:
        headers["Discord-Guild-Id"] = read["guild_id"]
    if "frame_base64" in read:
        frame = base64.b64decode(read["frame_base64"], validate=True)
    else:
        frame = _dumps(read["frame"])
    return SeenEvent(number, read["type"], headers, frame, began + timedelta(seconds=read["at"]))


def _if_the_same(frame: bytes) -> Any:
    """Return the frame's JSON, if encoding it gives the same bytes."""
    try:
        parsed = msgspec.json.decode(frame)
        return parsed if isinstance(parsed, dict) and _dumps(parsed) == frame else None
    except UNREADABLE:
        return None


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        read = msgspec.json.decode(line)
    except UNREADABLE:
        raise _wrong(number, "it is no JSON") from None
    if not isinstance(read, dict):
        raise _wrong(number, "it is no JSON object")
    return read


def _wrong(number: int, problem: str) -> DoesNotFit:
    return DoesNotFit(f"Line {number} of the file", problem, _RIGHT)


def _dumps(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _iso(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
