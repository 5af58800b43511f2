"""What a connection's payloads become on the wire: text, or one stream of zlib or zstd for the connection."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

from zlib_ng import zlib_ng

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL = 1
_ZSTD_WINDOW_LOG = 17
"""128 KiB: what a session's stream may look back on, which is most of its memory."""


class Encoder(Protocol):
    """Turns payloads into WebSocket messages, one after the other."""

    binary: bool

    def encode(self, payload: bytes) -> bytes:
        """Return the message with all of the payload in it."""
        ...


class Plain:
    """No compression."""

    binary = False

    def encode(self, payload: bytes) -> bytes:
        """See `Encoder`."""
        return payload


class Zlib:
    """`zlib-stream`: every message ends with a flush, by which clients know its end."""

    binary = True

    def __init__(self) -> None:
        self._stream: Any = zlib_ng.compressobj(_LEVEL)

    def encode(self, payload: bytes) -> bytes:
        """See `Encoder`."""
        return bytes(self._stream.compress(payload) + self._stream.flush(zlib_ng.Z_SYNC_FLUSH))


class Zstd:
    """`zstd-stream`."""

    binary = True

    def __init__(self) -> None:
        parameter = zstd.CompressionParameter
        options: dict[int, int] = {
            parameter.compression_level: _LEVEL,
            parameter.window_log: _ZSTD_WINDOW_LOG,
        }
        self._stream = zstd.ZstdCompressor(options=options)

    def encode(self, payload: bytes) -> bytes:
        """See `Encoder`."""
        return self._stream.compress(payload, zstd.ZstdCompressor.FLUSH_BLOCK)


ENCODERS: dict[str, Callable[[], Encoder]] = {"": Plain, "zlib-stream": Zlib, "zstd-stream": Zstd}
"""By the value of `compress` in the connection's address."""
