"""Which compression a gateway connection asks for: zstd-stream, and zlib-stream where that is not understood.

A session is resumed with what it began with: Discord asks for "the same query parameters". So the address at
which a session can be resumed names it, in `compress`. One without comes from a version that knew zlib only.
"""

from __future__ import annotations

from enum import StrEnum

import structlog
import yarl

_log = structlog.get_logger("sandbox.gateway")

_TRIES = 3
_QUERY = "compress"


class Compression(StrEnum):
    """The values are those of the address's `compress` (Discord's developer documentation, "Gateway")."""

    ZSTD = "zstd-stream"
    ZLIB = "zlib-stream"


class CompressionChoice:
    """One process's choice, for all its shards: zstd until it was refused three times in a row."""

    def __init__(self) -> None:
        self._refused = 0

    @property
    def present(self) -> Compression:
        """What a new session asks for."""
        return Compression.ZSTD if self._refused < _TRIES else Compression.ZLIB

    def to_resume(self, address: yarl.URL) -> Compression:
        """What the session that can be resumed at `address` asks for."""
        return self.present if address.query.get(_QUERY) == Compression.ZSTD else Compression.ZLIB

    def worked(self, compression: Compression) -> None:
        """A session was established with it."""
        if compression is Compression.ZSTD and self.present is compression:
            self._refused = 0

    def refused(self, compression: Compression) -> None:
        """A connection that asked for it was not understood: it brought no HELLO, or something else."""
        if compression is not Compression.ZSTD or self.present is not Compression.ZSTD:
            return
        self._refused += 1
        if self._refused == _TRIES:
            _log.warning("zstd_not_understood", tries=_TRIES, instead=str(Compression.ZLIB))


def resumed_at(address: str, compression: Compression) -> str:
    """The address with the compression that the session began with."""
    return str(yarl.URL(address).update_query({_QUERY: compression}))


class Address:
    """A gateway's address, as discord.py uses one: it asks for its own compression, and gets ours."""

    def __init__(self, url: yarl.URL, compression: Compression) -> None:
        self._url = url
        self._compression = compression

    def __str__(self) -> str:
        return str(self._url)

    def with_query(self, **query: str | int) -> yarl.URL:
        """The address with these parameters, but for the compression."""
        return self._url.with_query({**query, _QUERY: str(self._compression)})
