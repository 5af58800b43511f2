"""Dispatch frames, and how they are put on the wire cheaply.

A payload is made once and may be sent to several sessions; only the sequence
number differs. For a flood the larger part is also deflated once: a deflate
block that refers to nothing outside itself may stand anywhere in a
zlib-stream, so a frame is a short stored block with the number in it, followed
by the ready-made block (RFC 1951, sections 3.2.3 and 3.2.4).
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from typing import TYPE_CHECKING

from discord_sim.jsontypes import JsonValue

if TYPE_CHECKING:
    from discord_sim.session import GatewaySession

PLAIN_MIDDLE = b',"op":0,"d":'
_STORED = struct.Struct("<BHH")
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
        self.packed: bytes | None = None

    def pack(self) -> None:
        """Deflate the shared part once, for many uses."""
        deflater = zlib.compressobj(level=6, wbits=-15)
        self.packed = deflater.compress(self.tail) + deflater.flush(zlib.Z_SYNC_FLUSH)


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
        compress: True for zlib-stream: one deflate context for the whole
            connection, each message flushed with Z_SYNC_FLUSH.
    """

    def __init__(self, *, compress: bool) -> None:
        self._deflater = zlib.compressobj(level=1) if compress else None
        self._foreign_data = False

    def text(self, text: bytes) -> bytes:
        """A WebSocket message with this JSON text."""
        deflater = self._deflater
        if deflater is None:
            return _message(_TEXT, text)
        start = b""
        if self._foreign_data:
            # The client's window holds blocks that our deflater has not seen,
            # so it must not refer to anything before this point.
            start = deflater.flush(zlib.Z_FULL_FLUSH)
            self._foreign_data = False
        return _message(_BINARY, start + deflater.compress(text) + deflater.flush(zlib.Z_SYNC_FLUSH))

    def frame(self, frame: Frame) -> bytes:
        """A WebSocket message with this dispatch.

        HELLO has been sent before it, and with it the header of the zlib stream.
        """
        payload = frame.payload
        packed = payload.packed
        if packed is None or self._deflater is None:
            return self.text(frame.raw)
        self._foreign_data = True
        head = b"%b%d%b" % (payload.opening, frame.seq, frame.middle)
        size = len(head)
        return _message(_BINARY, _STORED.pack(0, size, size ^ 0xFFFF) + head + packed)


def garbage() -> bytes:
    """A WebSocket message that looks compressed and can't be: block type 3 is reserved (RFC 1951, 3.2.3)."""
    return _message(_BINARY, b"\x07\x00\x00\xff\xff")


def _message(kind: int, data: bytes) -> bytes:
    """An unmasked, final WebSocket frame (RFC 6455, section 5.2)."""
    size = len(data)
    if size < 126:
        return bytes((kind, size)) + data
    if size < 65536:
        return _MEDIUM.pack(kind, 126, size) + data
    return _LARGE.pack(kind, 127, size) + data
