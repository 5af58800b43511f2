"""A short way for what arrives from NATS in great numbers: read from the bytes, before nats-py parses them.

nats-py matches a message against several patterns, parses its headers, wraps it, queues it and wakes a task
for it. A `Way` recognises messages of one kind in the bytes and takes them; whatever none recognises goes
nats-py's way. A message of a way's kind can take either, so it needs an ordinary subscription as well.

The client protocol: docs.nats.io, "NATS Protocol", MSG and HMSG. Rests on nats-py 2.16: `Client._read_loop`
hands every piece that arrives to `_ps.parse`, a `Parser` that keeps an unfinished rest in `buf` and says in
`state` whether it is between two messages; a `Subscription` knows its number as `_id`. Without these names
every message takes nats-py's way.
"""

from __future__ import annotations

from typing import Any, Protocol

import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

_log = structlog.get_logger("sandbox.nats")

LINE_BREAK = b"\r\n"


class Way(Protocol):
    """Takes messages of one kind."""

    def take(self, data: bytes, position: int) -> tuple[int, int]:
        """Handle the whole messages that stand in `data` from `position` on.

        Returns where something else begins, and how many they were. Must not raise.
        """

    def begins(self, data: bytes, position: int) -> bool:
        """True when an unfinished message of this kind stands at `position`."""


class Incoming:
    """The ways in use on one connection."""

    def __init__(self, client: Any) -> None:
        # The private names of nats-py's `Client` have no types to rely on.
        self._client = client
        self._parser = client._ps
        self._ways: list[Way] = []
        self._parse_slowly = self._parser.parse
        # The parser itself stays: it may just now be in the middle of what it was given before.
        self._parser.parse = self._parse

    def use(self, way: Way) -> None:
        """Give messages to `way` from now on."""
        self._ways.append(way)

    def leave(self, way: Way) -> None:
        """Give `way` no more; with the last one nats-py's parser is as it was."""
        self._ways.remove(way)
        if not self._ways and self._parser.parse == self._parse:
            self._parser.parse = self._parse_slowly

    async def _parse(self, data: bytes = b"") -> None:
        parser = self._parser
        if parser.state != AWAITING_CONTROL_LINE:
            await self._parse_slowly(data)
            return
        if parser.buf:
            data = bytes(parser.buf) + data
            parser.buf.clear()
        position = self._take(data)
        if position == len(data):
            return
        rest = data[position:]
        for way in self._ways:
            if way.begins(data, position):
                # What comes next completes it.
                parser.buf.extend(rest)
                return
        await self._parse_slowly(rest)

    def _take(self, data: bytes) -> int:
        position = count = 0
        taken = True
        while taken and position < len(data):
            taken = False
            for way in self._ways:
                position, number = way.take(data, position)
                count += number
                taken = taken or number > 0
        if count:
            stats = self._client.stats
            stats["in_msgs"] += count
            stats["in_bytes"] += position
        return position


def incoming(client: Client, subscription: Subscription) -> tuple[Incoming, int] | None:
    """The client's ways and the subscription's number; None with another nats-py than is known."""
    parser, sid = getattr(client, "_ps", None), getattr(subscription, "_id", None)
    if not isinstance(parser, Parser) or not hasattr(parser, "buf") or not isinstance(sid, int):
        _log.warning("nats_parser_unknown")
        return None
    present = getattr(parser.parse, "__self__", None)
    return (present if isinstance(present, Incoming) else Incoming(client)), sid
