"""Builds dispatch frames and WebSocket messages at low cost.

A payload is built once and may be sent to several sessions; only the sequence number differs. For a flood
its larger part is also compressed only once.
"""

from __future__ import annotations

import json
import struct
import time
from typing import Protocol

from discord_sim.jsontypes import JsonValue
from discord_sim.streams import STREAMS

PLAIN_MIDDLE = b',"op":0,"d":'
_MEDIUM = struct.Struct("!BBH")
_LARGE = struct.Struct("!BBQ")
_TEXT = 0x81
_BINARY = 0x82


def encode(value: JsonValue) -> bytes:
    """Return compact JSON in UTF-8, with escapes only if needed."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form; escaped it is still valid JSON.
        return json.dumps(value, separators=(",", ":")).encode()


class Payload:
    """An event without its sequence number: its name, `d` as JSON text, and the guild for the shard."""

    __slots__ = ("guild_id", "opening", "packed", "tail", "type")

    def __init__(self, type: str, guild_id: int | None, body: bytes) -> None:  # noqa: A002
        self.type = type
        self.guild_id = guild_id
        self.opening = b'{"t":"' + type.encode() + b'","s":'
        self.tail = body + b"}"
        self.packed: dict[str, bytes] = {}

    def pack(self) -> None:
        """Compress the common part once, for many frames."""
        self.packed = {name: stream.pack(self.tail) for name, stream in STREAMS.items()}


class _Session(Protocol):
    """The session of a frame."""

    session_id: str
    shard: int


class Frame:
    """One dispatch of one session: a payload with its sequence number.

    `sent_at` is the time of the numbering, in seconds since the Unix epoch.
    """

    __slots__ = ("middle", "payload", "sent_at", "seq", "session")

    def __init__(self, session: _Session, seq: int, payload: Payload, middle: bytes) -> None:
        self.sent_at = time.time()
        self.session = session
        self.seq = seq
        self.payload = payload
        self.middle = middle

    def __repr__(self) -> str:
        return f"<Frame {self.type} shard={self.shard} seq={self.seq}>"

    @property
    def session_id(self) -> str:
        """The id of the frame's session."""
        return self.session.session_id

    @property
    def shard(self) -> int:
        """The shard of the frame's session."""
        return self.session.shard

    @property
    def type(self) -> str:
        """Event name."""
        return self.payload.type

    @property
    def guild_id(self) -> int | None:
        """The guild that chose the shard."""
        return self.payload.guild_id

    @property
    def raw(self) -> bytes:
        """The frame's JSON text, as after decompression."""
        return b"%b%d%b%b" % (self.payload.opening, self.seq, self.middle, self.payload.tail)


class Encoder:
    """Turns frames into WebSocket messages of one connection.

    `compression` is a key of `STREAMS`; any other value sends plain text.
    """

    def __init__(self, compression: str | None) -> None:
        known = STREAMS.get(compression or "")
        self._stream = None if known is None else known()
        self._compression = compression or ""
        self._kind = _TEXT if known is None else _BINARY
        self.pieces = 1
        """The number of messages for one compressed event; 0 joins events that are sent together."""

    def text(self, text: bytes) -> bytes:
        """Return the message's content for a JSON text."""
        return text if self._stream is None else self._stream.text(text)

    def frame(self, frame: Frame) -> bytes:
        """Return the message's content for a dispatch. HELLO comes before, with the stream's header."""
        payload = frame.payload
        packed = payload.packed.get(self._compression)
        if packed is None or self._stream is None:
            return self.text(frame.raw)
        return self._stream.ready(b"%b%d%b" % (payload.opening, frame.seq, frame.middle), packed)

    def messages(self, events: list[bytes]) -> bytes:
        """Return the results of `text` and `frame` as WebSocket messages."""
        kind = self._kind
        if self.pieces != 1 and self._stream is not None:
            events = self._cut(events)
        return b"".join([_message(kind, event) for event in events])

    def _cut(self, events: list[bytes]) -> list[bytes]:
        if not self.pieces:
            return [b"".join(events)]
        cut: list[bytes] = []
        for event in events:
            size = -(-len(event) // self.pieces)
            cut += [event[i : i + size] for i in range(0, len(event), size)]
        return cut


def garbage() -> bytes:
    """Return a WebSocket message with an invalid compressed block: its type 3 is reserved.

    See RFC 1951, section 3.2.3, and RFC 8878, section 3.1.1.2.2.
    """
    return _message(_BINARY, b"\x07\x00\x00\xff\xff")


def _message(kind: int, data: bytes) -> bytes:
    """Return an unmasked, final WebSocket frame (RFC 6455, section 5.2)."""
    size = len(data)
    if size < 126:
        return bytes((kind, size)) + data
    if size < 65536:
        return _MEDIUM.pack(kind, 126, size) + data
    return _LARGE.pack(kind, 127, size) + data
