"""Writes to a connection that may be lost, on every Python that is supported.

asyncio's `writelines` of Python 3.12, and of the first releases of 3.13, asks the selector to watch a
connection that is lost (https://github.com/python/cpython/issues/136234). The next connection or pipe of the
process whose descriptor has the same number is then not watched: its connecting, or its reading, never ends.
Nor does that `writelines` ever ask its caller to wait (CVE-2024-12254). `write` is right in both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


def write_at_once(writer: asyncio.StreamWriter) -> None:
    """Have the writer's `writelines` do what `write` does, for a library that calls it."""
    transport = writer.transport

    def writelines(data: Iterable[bytes | bytearray | memoryview]) -> None:
        transport.write(b"".join(data))

    writer.writelines = writelines  # type: ignore[method-assign]
