"""Gives a frame of Discord's another sequence number. All other bytes stay as they came."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

# As Discord writes them. `t` has no escapes, so nothing before the number can look like its key.
_USUAL = re.compile(rb'\{"t":"[A-Za-z0-9_]+","s":([0-9]+),')


class _Frame(msgspec.Struct):
    t: str
    s: int
    op: int
    d: msgspec.Raw


_DECODER = msgspec.json.Decoder(_Frame)


class Divided(NamedTuple):
    """A frame without its number."""

    before: bytes
    after: bytes

    def numbered(self, sequence: int) -> bytes:
        """Return the frame with this number."""
        return b"%b%d%b" % (self.before, sequence, self.after)


def divide(frame: bytes) -> Divided | None:
    """Return the frame without its number; None for what is no event.

    With its keys in another order than Discord's the frame is written anew; the bytes of `d` stay even then.
    """
    if (usual := _USUAL.match(frame)) is not None:
        return Divided(frame[: usual.start(1)], frame[usual.end(1) :])
    try:
        read = _DECODER.decode(frame)
    except msgspec.DecodeError:
        return None
    if read.op != 0:
        return None
    name = msgspec.json.encode(read.t)
    return Divided(b'{"t":%b,"s":' % name, b',"op":0,"d":%b}' % bytes(read.d))


def with_body(event: str, body: bytes) -> Divided:
    """Return an event of our own without its number; `body` is JSON."""
    return Divided(b'{"t":"%b","s":' % event.encode(), b',"op":0,"d":%b}' % body)


def guild_gone(guild_id: str) -> Divided:
    """Return the GUILD_DELETE of a server that can't be seen now."""
    return with_body("GUILD_DELETE", msgspec.json.encode({"id": guild_id, "unavailable": True}))
