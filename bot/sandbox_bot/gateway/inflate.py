"""The gateway's compressed stream back into bytes, for less than Python's own zlib takes.

With `compress=zlib-stream` all messages of a connection share one deflate stream, and each ends with a sync
flush, `00 00 FF FF`; what does not goes on in the next one (Discord's developer documentation, "Gateway",
transport compression). zlib-ng undoes the same format in three quarters of the time, and discord.py's own
context makes text of the bytes besides, of which routing would make bytes again.

Rests on discord.py 2.7's `DiscordWebSocket`: its `_decompressor` has a method `decompress`, and names in
`COMPRESSION_TYPE` what was asked for in the address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zlib_ng import zlib_ng

from .endings import ConnectionEndedError, Ending

_FLUSHED = b"\x00\x00\xff\xff"
# Its type stub says that this is an instance.
_error: Any = zlib_ng.error

Inflate = Callable[[bytes], bytes | None]
"""Takes a connection's messages in their order; gives what one completes, or None before its end.

Raises `ConnectionEndedError` when it is not the stream it should be: nothing that follows can be read.
"""


def inflater(discords: Any) -> Inflate:
    """What undoes the compression of one connection, for which `discords` is discord.py's context."""
    if discords.COMPRESSION_TYPE == "zlib-stream":
        return _ZlibStream().inflate

    def inflate(data: bytes) -> bytes | None:
        try:
            text: str | None = discords.decompress(data)
        except Exception as error:
            # Which errors there are depends on the library that discord.py has found.
            raise ConnectionEndedError(Ending.GARBLED) from error
        return None if text is None else text.encode()

    return inflate


class _ZlibStream:
    def __init__(self) -> None:
        self._stream = zlib_ng.decompressobj()
        self._inflate = self._stream.decompress
        self._parts: list[bytes] = []

    def inflate(self, data: bytes) -> bytes | None:
        if data[-4:] != _FLUSHED:
            self._parts.append(data)
            return None
        if self._parts:
            data = b"".join((*self._parts, data))
            self._parts.clear()
        try:
            inflated = self._inflate(data)
        except _error as error:
            raise ConnectionEndedError(Ending.GARBLED) from error
        if not inflated and self._stream.eof:
            # Whatever came after a stream's end would count for nothing.
            raise ConnectionEndedError(Ending.GARBLED)
        return inflated
