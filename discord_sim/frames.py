"""Dispatch frames, and how they are put on the wire cheaply.

A payload is made once and may be sent to several sessions; only the sequence
number differs. For a flood the larger part is also compressed once.
"""

from __future__ import annotations

import json
import struct
import time
from typing import TYPE_CHECKING

from discord_sim.jsontypes import JsonValue
from discord_sim.streams import STREAMS

if TYPE_CHECKING:
    from discord_sim.session import GatewaySession

PLAIN_MIDDLE = b',"op":0,"d":'
_MEDIUM = struct.Struct("!BBH")
_LARGE = struct.Struct("!BBQ")
_TEXT = 0x81
_BINARY = 0x82


def encode(value: JsonValue) -> bytes:
    """Compact JSON in UTF-8, without escapes where none are needed."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form; escaped it is still valid JSON.
        return json.dumps(value, separators=(",", ":")).encode()


class Payload:
    """An event without its sequence number.

    Args:
        type: Event name.
        guild_id: Chooses the shard.
        body: The ``d`` as JSON text.
    """

    __slots__ = ("guild_id", "opening", "packed", "tail", "type")

    def __init__(self, type: str, guild_id: int | None, body: bytes) -> None:  # noqa: A002
        self.type = type
        self.guild_id = guild_id
        self.opening = b'{"t":"' + type.encode() + b'","s":'
        self.tail = body + b"}"
        self.packed: dict[str, bytes] = {}

    def pack(self) -> None:
        """Compress the shared part once, for many uses."""
        self.packed = {name: stream.pack(self.tail) for name, stream in STREAMS.items()}


class Frame:
    """One dispatch as one session gets it: the payload with its sequence number.

    ``sent_at`` is when it was numbered, in seconds since the Unix epoch.
    """

    __slots__ = ("middle", "payload", "sent_at", "seq", "session")

    def __init__(self, session: GatewaySession, seq: int, payload: Payload, middle: bytes) -> None:
        self.sent_at = time.time()
        self.session = session
        self.seq = seq
        self.payload = payload
        self.middle = middle

    def __repr__(self) -> str:
        return f"<Frame {self.type} shard={self.shard} seq={self.seq}>"

    @property
    def session_id(self) -> str:
        """The session it belongs to."""
        return self.session.session_id

    @property
    def shard(self) -> int:
        """The shard it belongs to."""
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
        """The frame's JSON text, as the client has it after decompression."""
        return b"%b%d%b%b" % (self.payload.opening, self.seq, self.middle, self.payload.tail)


class Encoder:
    """Turns frames into WebSocket messages of one connection.

    Args:
        compression: Of :data:`STREAMS`; anything else sends plain text.
    """

    def __init__(self, compression: str | None) -> None:
        known = STREAMS.get(compression or "")
        self._stream = None if known is None else known()
        self._compression = compression or ""
        self._kind = _TEXT if known is None else _BINARY
        self.pieces = 1
        """Into how many messages an event is cut, where it is compressed; 0 joins what is sent at once."""

    def text(self, text: bytes) -> bytes:
        """This JSON text as it is sent in a message."""
        return text if self._stream is None else self._stream.text(text)

    def frame(self, frame: Frame) -> bytes:
        """This dispatch as it is sent in a message.

        HELLO has been sent before it, and with it the header of the stream.
        """
        payload = frame.payload
        packed = payload.packed.get(self._compression)
        if packed is None or self._stream is None:
            return self.text(frame.raw)
        return self._stream.ready(b"%b%d%b" % (payload.opening, frame.seq, frame.middle), packed)

    def messages(self, events: list[bytes]) -> bytes:
        """What `text` and `frame` gave, as messages."""
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
    """A WebSocket message that looks compressed and can't be: a block of type 3 is reserved.

    RFC 1951, section 3.2.3, and RFC 8878, section 3.1.1.2.2.
    """
    return _message(_BINARY, b"\x07\x00\x00\xff\xff")


def _message(kind: int, data: bytes) -> bytes:
    """An unmasked, final WebSocket frame (RFC 6455, section 5.2)."""
    size = len(data)
    if size < 126:
        return bytes((kind, size)) + data
    if size < 65536:
        return _MEDIUM.pack(kind, 126, size) + data
    return _LARGE.pack(kind, 127, size) + data
