"""Hearing JetStream's answers to publications: one inbox for all, the subject's last token is the number.

The answers to one or two publishers on a connection come mixed, one's with even numbers and the other's with
odd. An inbox for each would end every burst at the next answer for the other one.

nats-py's way with a message took a tenth of an event's time. Answers come in bursts, and nearly all say the
same: stored. So they are read from the bytes that arrive, see `wire`; what is not plainly an answer,
such as the status that nobody took the publication, comes through an ordinary subscription.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from .publication import Publication, PublisherEvents
from .wire import LINE_BREAK, Incoming, incoming

_log = structlog.get_logger("sandbox.nats")

_STATUS_HEADER = "Status"
_NO_RESPONDERS = "503"
_STORED = rb'\{"stream":"\w+", ?"seq":\d+\}\r\n'
"""The answer itself, as the server writes nearly every one; it has no room for a refusal or a doubt."""


class PubAckError(msgspec.Struct, gc=False):
    """Why JetStream did not store a message; the codes are the server's (`errors.json` in its source)."""

    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct, gc=False):
    error: PubAckError | None = None
    seq: int = 0
    duplicate: bool = False


_pub_ack = msgspec.json.Decoder(_PubAck).decode


class Answers(Protocol):
    """What is done with the answers, on the event loop."""

    def stored(self, numbers: Sequence[int]) -> None:
        """JetStream has these publications, perhaps from earlier attempts."""

    def duplicate(self, number: int, sequence: int) -> None:
        """JetStream has a message of this id, at this place in its stream, and did not store this one."""

    def not_stored(self, number: int, error: PubAckError) -> None:
        """JetStream refused it."""

    def no_stream(self, number: int) -> None:
        """No stream listens on the subject: it is missing, or JetStream is still starting."""


class AckInbox:
    """Subscribes for one publisher's answers."""

    def __init__(self, client: Client, answers: Answers) -> None:
        self._client = client
        self._answers = answers
        self.prefix = ""
        """A publication's reply subject is this and its number; known once the inbox is open."""
        self._subscription: Subscription | None = None
        self._incoming: Incoming | None = None
        self._line = re.compile(b"")
        # Known to the module, and not to its type stub.
        self._scanner: Any = None

    async def open(self) -> None:
        """Begin to hear; the connection must stand. Raises nats-py's errors."""
        self.prefix = f"{self._client.new_inbox()}."
        self._subscription = await self._client.subscribe(
            f"{self.prefix}*", cb=self._on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )
        known = incoming(self._client, self._subscription)
        if known is not None:
            self._incoming, sid = known
            line = rb"MSG %b(\d+) %d (\d+)\r\n" % (re.escape(self.prefix.encode()), sid)
            self._line = re.compile(line)
            stored: Any = re.compile(line + _STORED)
            self._scanner = stored.scanner
            self._incoming.use(self)

    async def close(self, *, connected: bool) -> None:
        """Hear no more; without a connection the server is not told."""
        if self._incoming is not None:
            self._incoming.leave(self)
            self._incoming = None
        if self._subscription is not None and connected:
            try:
                await self._subscription.unsubscribe()
            except nats.errors.Error as error:
                _log.debug("inbox_not_unsubscribed", error=type(error).__name__)

    # The short way; see `wire.Way`

    def take(self, data: bytes, position: int) -> tuple[int, int]:
        """Handle the answers that stand in `data` from `position` on."""
        size, count = len(data), 0
        while True:
            # Answers come in bursts, and nearly all say the same: each match begins where the last one ended.
            plainly = self._scanner(data, position)
            if lines := list(iter(plainly.match, None)):
                position = lines[-1].end()
                count += len(lines)
                self._tell_stored([int(line[1]) for line in lines])
            line = self._line.match(data, position)
            if line is None:
                break
            begin = line.end()
            end = begin + int(line[2])
            if end + len(LINE_BREAK) > size:
                break
            self._hear(int(line[1]), data[begin:end])
            position = end + len(LINE_BREAK)
            count += 1
        return position, count

    def _tell_stored(self, numbers: Sequence[int]) -> None:
        try:
            self._answers.stored(numbers)
        except Exception:
            # A fault in what follows an acknowledgement: the next answers are still to be heard.
            _log.exception("answer_not_handled", answers=len(numbers))

    def begins(self, data: bytes, position: int) -> bool:
        """True when an unfinished answer stands there."""
        return self._line.match(data, position) is not None

    # Both ways

    def _hear(self, number: int, payload: bytes) -> None:
        try:
            if b'"error"' in payload or b'"duplicate"' in payload:
                answer = _pub_ack(payload)
                if answer.error is not None:
                    self._answers.not_stored(number, answer.error)
                    return
                if answer.duplicate:
                    self._answers.duplicate(number, answer.seq)
                    return
            self._answers.stored((number,))
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


STEP = 2
"""From one number of a publisher to its next."""


class Hears(Answers, Protocol):
    """A publisher."""

    events: PublisherEvents
    awaited: dict[int, Publication]
    """What it was given and is not acknowledged, by number."""

    def are_off(self, numbers: Sequence[int]) -> None:
        """These are not awaited any more, as far as they were."""


class OneInbox:
    """Hands each answer to the publisher whose number it has."""

    def __init__(self, client: Client) -> None:
        self._inbox = AckInbox(client, self)
        self._publishers: list[Hears] = []
        self._off_even: Callable[..., Publication | None] = _none
        self._off_odd: Callable[..., Publication | None] = _none
        self._opening = asyncio.Lock()
        self._is_open = False
        self._together = False
        """There are two, and both tell the same one."""

    def join(self, publisher: Hears) -> int:
        """Hear for this one, too; returns its first number."""
        number = len(self._publishers)
        self._publishers.append(publisher)
        if number:
            self._together = publisher.events is self._publishers[0].events
            self._off_odd = publisher.awaited.pop
        else:
            self._off_even = publisher.awaited.pop
        return number

    async def open(self) -> str:
        """Begin to hear, if nobody has; the connection must stand. Returns what stands before a number."""
        async with self._opening:
            if not self._is_open:
                await self._inbox.open()
                self._is_open = True
        return self._inbox.prefix

    async def close(self, publisher: Hears, *, connected: bool) -> None:
        """Hear no more for this one; without a connection the server is not told."""
        if self._is_open and publisher is self._publishers[0]:
            await self._inbox.close(connected=connected)

    def in_flight(self) -> list[Publication]:
        """What all of them have sent, or will."""
        return [each for publisher in self._publishers for each in publisher.awaited.values()]

    # Answers

    def stored(self, numbers: Sequence[int]) -> None:
        """JetStream has these publications."""
        if len(self._publishers) == 1:
            self._publishers[0].stored(numbers)
            return
        if not self._together:
            for parity, publisher in enumerate(self._publishers):
                publisher.stored([number for number in numbers if number % STEP == parity])
            return
        off, off_odd = self._off_even, self._off_odd
        publications = [
            found for number in numbers if (found := off(number, None) or off_odd(number, None)) is not None
        ]
        for publisher in self._publishers:
            publisher.are_off(numbers)
        if publications:
            self._publishers[0].events.acknowledged(publications)

    def duplicate(self, number: int, sequence: int) -> None:
        """JetStream has a message of this id, at this place in its stream."""
        self._publishers[number % STEP].duplicate(number, sequence)

    def not_stored(self, number: int, error: PubAckError) -> None:
        """JetStream refused it."""
        self._publishers[number % STEP].not_stored(number, error)

    def no_stream(self, number: int) -> None:
        """No stream listens on the subject."""
        self._publishers[number % STEP].no_stream(number)


def _none(*_: Any) -> None:
    return None
