"""The gateway's compressed stream back into events, for less than Python's own zlib takes.

All messages of a connection share one stream, and after each event the sender flushes (Discord's developer
documentation, "Gateway", transport compression). With zlib-stream `00 00 FF FF` at a message's end tells of
the flush; zlib-ng undoes the format in three quarters of zlib's time. zstd-stream costs a third less again,
but has no such mark: there the event's own last brace tells that it is whole.

Discord sends each event as one message. Everything else is the slow way: `apart` cuts what holds several
events, and what holds a piece of one is kept until its rest has come.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sized
from typing import Any, Protocol

import msgspec
import structlog
from zlib_ng import zlib_ng

from sandbox_core.strangers import UNREADABLE as NOT_JSON

from .compression import Compression
from .endings import ConnectionEndedError, Ending

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_log = structlog.get_logger("sandbox.gateway")

LARGEST = 64 * 1024 * 1024
"""Bytes that one message may become. The largest GUILD_CREATE has a few million."""
_FLUSHED = b"\x00\x00\xff\xff"
# Its type stub says that this is an instance.
_zlib_error: Any = zlib_ng.error
UNREADABLE = (zstd.ZstdError, EOFError)
"""What `Stream.decompress` raises; the second when something came after the stream's end."""
_BRACE_OR_STRING = re.compile(rb'(?s)[{}]|"(?:[^"\\]|\\.)*+"?')


class _Event(msgspec.Struct):
    op: int


_event = msgspec.json.Decoder(_Event).decode


class Stream(Protocol):
    """One connection's stream.

    `inflate` and `apart` raise `ConnectionEndedError` when it is not the stream it should be: nothing after
    that can be read.
    """

    @property
    def decompress(self) -> Callable[[bytes, int], bytes] | None:
        """What `inflate` does with most messages, for who saves the call; see `UNREADABLE`."""

    @property
    def pieces(self) -> Sized:
        """What came of an event that is not whole: what comes next then needs `inflate`."""

    def inflate(self, data: bytes) -> bytes | None:
        """Take the connection's next message; gives the event that it completes, or None before its end.

        What is no event has to be given to `apart`.
        """

    def apart(self, text: bytes) -> list[bytes]:
        """The events in what `inflate` gave last, and what can never be one."""


def stream(compression: Compression) -> Stream:
    """What undoes the compression of one connection."""
    return _ZstdStream() if compression is Compression.ZSTD else _ZlibStream()


def cut(text: bytes) -> tuple[list[bytes], bytes]:
    """The JSON objects that stand in `text` one after the other, and the beginning of the next."""
    objects: list[bytes] = []
    depth = start = 0
    for mark in _BRACE_OR_STRING.finditer(text):
        if mark[0] == b"{":
            depth += 1
        elif mark[0] == b"}":
            depth -= 1
            if depth <= 0:
                objects.append(text[start : mark.end()].strip())
                depth, start = 0, mark.end()
    return objects, text[start:].lstrip()


class _ZstdStream:
    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor()
        self.decompress: Callable[[bytes, int], bytes] | None = self._stream.decompress
        self.pieces: list[bytes] = []
        self._size = 0
        self._joined: tuple[bytes, list[bytes]] = (b"", [])
        """What was joined last, and of which pieces."""

    def inflate(self, data: bytes) -> bytes | None:
        try:
            text = self._stream.decompress(data, LARGEST)
        except UNREADABLE as error:
            raise ConnectionEndedError(Ending.GARBLED) from error
        return self._continued(text) if self.pieces or not text else text

    def _continued(self, text: bytes) -> bytes | None:
        if text:
            self._keep(text)
        # Joined when it may be whole, and not for each of a large event's pieces.
        if not text.rstrip().endswith(b"}"):
            return None
        whole, kept = b"".join(self.pieces), self.pieces
        self._joined = (whole, kept)
        self.pieces, self._size = [], 0
        return whole

    def _keep(self, text: bytes) -> None:
        self.pieces.append(text)
        self._size += len(text)
        if self._size >= LARGEST:
            raise _too_large()

    def apart(self, text: bytes) -> list[bytes]:
        if not self._stream.needs_input:
            raise _too_large()
        (joined, pieces), self._joined = self._joined, (b"", [])
        if text is joined and len(pieces) > 1 and _is_event(pieces[-1]):
            # It is whole by itself, so what came before it was no event's beginning.
            return [b"".join(pieces[:-1]), pieces[-1]]
        objects, rest = cut(text)
        if rest:
            self._keep(rest)
        return objects


class _ZlibStream:
    def __init__(self) -> None:
        self._stream = zlib_ng.decompressobj()
        self._inflate = self._stream.decompress
        self.decompress: Callable[[bytes, int], bytes] | None = None
        self.pieces = bytearray()

    def inflate(self, data: bytes) -> bytes | None:
        if self.pieces or data[-4:] != _FLUSHED:
            # The mark itself may come in two messages.
            pieces = self.pieces
            pieces += data
            if len(pieces) > LARGEST:
                raise _too_large()
            if pieces[-4:] != _FLUSHED:
                return None
            data = bytes(pieces)
            pieces.clear()
        try:
            text = self._inflate(data, LARGEST)
        except _zlib_error as error:
            raise ConnectionEndedError(Ending.GARBLED) from error
        if not text:
            if self._stream.eof:
                # Whatever came after a stream's end would count for nothing.
                raise ConnectionEndedError(Ending.GARBLED)
            return None
        return text

    def apart(self, text: bytes) -> list[bytes]:
        if self._stream.unconsumed_tail:
            raise _too_large()
        objects, rest = cut(text)
        # The flush says that nothing belongs to it any more.
        return [*objects, rest] if rest else objects


def _is_event(text: bytes) -> bool:
    try:
        _event(text)
    except NOT_JSON:
        return False
    return True


def _too_large() -> ConnectionEndedError:
    _log.error("message_too_large", most=LARGEST)
    return ConnectionEndedError(Ending.GARBLED)
