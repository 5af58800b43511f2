"""Hearing JetStream's answers to publications: one inbox for all, the subject's last token is the number.

nats-py parses a message with several patterns, wraps it, queues it and wakes a task for it, which took a
tenth of an event's time. Answers come in bursts, and nearly all say the same: stored. So the bytes that
arrive are first looked through for those; whatever is not plainly one takes nats-py's way, and comes back
through an ordinary subscription.

The client protocol (docs.nats.io, "NATS Protocol", MSG): `MSG <subject> <sid> <#bytes>`, line break, payload,
line break. Rests on nats-py 2.16: `Client._read_loop` hands every piece that arrives to `_ps.parse`, a
`Parser` that keeps an unfinished rest in `buf` and says in `state` whether it is between two messages.
Without these names every answer takes nats-py's way.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

_log = structlog.get_logger("sandbox.nats")

_STATUS_HEADER = "Status"
_NO_RESPONDERS = "503"
_LINE_BREAK = len(b"\r\n")


class PubAckError(msgspec.Struct, gc=False):
    """Why JetStream did not store a message; the codes are the server's (`errors.json` in its source)."""

    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct, gc=False):
    error: PubAckError | None = None


_pub_ack = msgspec.json.Decoder(_PubAck).decode


class Answers(Protocol):
    """What is done with the answers, on the event loop."""

    def stored(self, number: int) -> None:
        """JetStream has the publication, perhaps from an earlier attempt."""

    def not_stored(self, number: int, error: PubAckError) -> None:
        """JetStream refused it."""

    def no_stream(self, number: int) -> None:
        """No stream listens on the subject: it is missing, or JetStream is still starting."""


class AckInbox:
    """Subscribes for one publisher's answers."""

    def __init__(self, client: Client, answers: Answers) -> None:
        self._client: Any = client
        self._answers = answers
        self.prefix = ""
        """A publication's reply subject is this and its number; known once the inbox is open."""
        self._subscription: Subscription | None = None
        self._parser: Any = None
        self._parse_slowly: Any = None
        self._line = re.compile(b"")

    async def open(self) -> None:
        """Begin to hear; the connection must stand. Raises nats-py's errors."""
        self.prefix = f"{self._client.new_inbox()}."
        self._subscription = await self._client.subscribe(
            f"{self.prefix}*", cb=self._on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )
        parser = getattr(self._client, "_ps", None)
        sid = getattr(self._subscription, "_id", None)
        if not isinstance(parser, Parser) or not hasattr(parser, "buf") or not isinstance(sid, int):
            _log.warning("nats_parser_unknown")
            return
        self._line = re.compile(rb"MSG %b(\d+) %d (\d+)\r\n" % (re.escape(self.prefix.encode()), sid))
        self._parser, self._parse_slowly = parser, parser.parse
        # The parser itself stays: it may just now be in the middle of what it was given before.
        self._parser.parse = self._parse

    async def close(self, *, connected: bool) -> None:
        """Hear no more; without a connection the server is not told."""
        if self._parser is not None and self._parser.parse == self._parse:
            self._parser.parse = self._parse_slowly
        if self._subscription is not None and connected:
            try:
                await self._subscription.unsubscribe()
            except nats.errors.Error as error:
                _log.debug("inbox_not_unsubscribed", error=type(error).__name__)

    # The short way

    async def _parse(self, data: bytes = b"") -> None:
        parser = self._parser
        if parser.state != AWAITING_CONTROL_LINE:
            await self._parse_slowly(data)
            return
        if parser.buf:
            data = bytes(parser.buf) + data
            parser.buf.clear()
        position = self._take(data)
        if position < len(data):
            rest = data[position:]
            if self._line.match(rest):
                # An answer whose end has not come yet: what comes next completes it.
                parser.buf.extend(rest)
            else:
                await self._parse_slowly(rest)

    def _take(self, data: bytes) -> int:
        """Handle the answers that `data` begins with; returns where something else begins."""
        match, size = self._line.match, len(data)
        position = count = 0
        while line := match(data, position):
            begin = line.end()
            end = begin + int(line[2])
            if end + _LINE_BREAK > size:
                break
            self._hear(int(line[1]), data[begin:end])
            position = end + _LINE_BREAK
            count += 1
        if count:
            stats = self._client.stats
            stats["in_msgs"] += count
            stats["in_bytes"] += position
        return position

    # Both ways

    def _hear(self, number: int, payload: bytes) -> None:
        try:
            if b'"error"' in payload:
                error = _pub_ack(payload).error
                if error is not None:
                    self._answers.not_stored(number, error)
                    return
            self._answers.stored(number)
        except Exception:
            # An answer that can't be read, or a fault in what follows an acknowledgement: nats-py would
            # end its reading, or hide it. The next answers are still to be heard.
            _log.exception("answer_not_handled", bytes=len(payload))

    async def _on_message(self, message: Msg) -> None:
        number = message.subject[len(self.prefix) :]
        if not number.isdigit():
            _log.warning("answer_not_understood", bytes=len(message.data))
        elif message.headers and message.headers.get(_STATUS_HEADER) == _NO_RESPONDERS:
            try:
                self._answers.no_stream(int(number))
            except Exception:
                # The next answers are still to be heard.
                _log.exception("answer_not_handled", bytes=len(message.data))
        else:
            self._hear(int(number), message.data)
