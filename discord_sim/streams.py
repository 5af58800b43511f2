"""Transport compression: one stream for all messages of a connection, with a flush after each event.

For a flood the larger part of an event is compressed once, for many connections and sequence numbers. A block
without references to other blocks is valid at any place in such a stream. So an event is a short stored block
with the number, followed by the block that was compressed in advance. Deflate: RFC 1951, sections 3.2.3 and
3.2.4. Zstandard: RFC 8878, section 3.1.1.2.
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import ClassVar, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_STORED = struct.Struct("<BHH")


class Stream(Protocol):
    """The compressed stream of one connection."""

    def text(self, text: bytes) -> bytes:
        """Compress the next event, and flush."""

    def ready(self, head: bytes, packed: bytes) -> bytes:
        """Build the next event, but never the first, from its head and the result of `pack` for its rest."""


class ZlibStream:
    """`compress=zlib-stream`: each event ends with a Z_SYNC_FLUSH."""

    def __init__(self) -> None:
        self._deflater = zlib.compressobj(level=1)
        self._foreign_data = False

    @staticmethod
    def pack(tail: bytes) -> bytes:
        """Compress into a deflate block without references to other blocks."""
        deflater = zlib.compressobj(level=6, wbits=-15)
        return deflater.compress(tail) + deflater.flush(zlib.Z_SYNC_FLUSH)

    def text(self, text: bytes) -> bytes:
        deflater = self._deflater
        start = b""
        if self._foreign_data:
            # The client's window contains blocks that our deflater has not seen, so it must not refer to data
            # before this point.
            start = deflater.flush(zlib.Z_FULL_FLUSH)
            self._foreign_data = False
        return start + deflater.compress(text) + deflater.flush(zlib.Z_SYNC_FLUSH)

    def ready(self, head: bytes, packed: bytes) -> bytes:
        self._foreign_data = True
        size = len(head)
        return _STORED.pack(0, size, size ^ 0xFFFF) + head + packed


class ZstdStream:
    """`compress=zstd-stream`: one Zstandard frame for the connection, with a flush after each event."""

    _WINDOW: ClassVar[dict[int, int]] = {zstd.CompressionParameter.window_log: 20}
    # Magic number, descriptor, window: no content size and no checksum, which a stream can't have.
    _HEADER = 6
    _LARGEST_BLOCK = 1 << 17

    def __init__(self) -> None:
        self._compressor = self._new(1)
        self._foreign_data = False

    @classmethod
    def pack(cls, tail: bytes) -> bytes:
        """Compress into blocks without references to other blocks."""
        compressor = cls._new(6)
        blocks = compressor.compress(tail, compressor.FLUSH_BLOCK)[cls._HEADER :]
        return blocks if cls._stands_alone(blocks, tail) else cls._stored(tail)

    def text(self, text: bytes) -> bytes:
        if self._foreign_data:
            # The client's tables and offsets now come from blocks that our compressor has not seen.
            return self.pack(text)
        return self._compressor.compress(text, self._compressor.FLUSH_BLOCK)

    def ready(self, head: bytes, packed: bytes) -> bytes:
        self._foreign_data = True
        return (len(head) << 3).to_bytes(3, "little") + head + packed

    @classmethod
    def _new(cls, level: int) -> zstd.ZstdCompressor:
        options: dict[int, int] = {zstd.CompressionParameter.compression_level: level, **cls._WINDOW}
        return zstd.ZstdCompressor(options=options)

    @classmethod
    def _stands_alone(cls, blocks: bytes, text: bytes) -> bool:
        """Return whether the blocks decompress to `text` after any other blocks.

        The first block of a frame may use the start values of the repeat offsets; other blocks change them.
        """
        for before in (b"before and before that", b"xyxyxyxyxyxyxy, otherwise, otherwise"):
            compressor = cls._new(1)
            stream = compressor.compress(before * 9, compressor.FLUSH_BLOCK) + blocks
            try:
                if zstd.ZstdDecompressor().decompress(stream)[len(before) * 9 :] != text:
                    return False
            except zstd.ZstdError:
                return False
        return True

    @classmethod
    def _stored(cls, text: bytes) -> bytes:
        pieces = [text[i : i + cls._LARGEST_BLOCK] for i in range(0, len(text), cls._LARGEST_BLOCK)]
        return b"".join((len(piece) << 3).to_bytes(3, "little") + piece for piece in pieces)


STREAMS: dict[str, type[ZlibStream | ZstdStream]] = {"zlib-stream": ZlibStream, "zstd-stream": ZstdStream}
"""The streams by the value of `compress` in the gateway's address."""
