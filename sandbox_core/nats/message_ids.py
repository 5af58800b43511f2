"""Reading a stream's messages, many of them: one of their headers without the payloads, or all of them.

A consumer that asks for headers only gets them in batches of its own choice (docs.nats.io, "JetStream wire
API": `$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>`). They are read from the bytes that arrive, see
`wire`: through nats-py's parser and its headers a minute's events would take longer than a dead
process's shards may wait.

The subject to which a message would be acknowledged tells when it was stored: `$JS.ACK.<stream>.<consumer>.
<delivered>.<stream sequence>.<consumer sequence>.<nanoseconds>.<pending>`, with two more words before the
stream's in another version of it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import NotFoundError

from sandbox_core.errors import DependencyUnavailable

from .consumers import OURS
from .errors import DEPENDENCY
from .stream_faults import is_ours
from .wire import LINE_BREAK, MESSAGE_ID, Incoming, incoming

_log = structlog.get_logger("sandbox.nats")

_BATCH = 5000
_WHOLE_BATCH = 1000
_BATCH_WITHIN = 2.0
_LEAVE_WITHIN = 1.0
_KEPT_UNUSED_SECONDS = 30.0
_NANOSECONDS = 1_000_000_000
_OLD_ACK_WORDS = 9
_NEW_ACK_WORDS = 2  # more than that, before the stream's name
_STATUS = b"NATS/1.0 "


class TooManyMessagesError(Exception):
    """There are more messages to read than the caller has time for."""


class Content(NamedTuple):
    """One message: its headers as they travel, its payload, and when it was stored (since the epoch)."""

    headers: bytes
    payload: bytes
    stored_at: float

    def header(self, name: str) -> str | None:
        """The value of a header."""
        begin = self.headers.find(f"\r\n{name}: ".encode())
        if begin < 0:
            return None
        begin += len(name) + 4
        return self.headers[begin : self.headers.find(LINE_BREAK, begin)].decode(errors="replace")


class Batches:
    """Counts what arrives for one consumer and hands on a header's values, or messages; an `wire.Way`."""

    def __init__(
        self,
        found: Callable[[str], None] | None = None,
        whole: Callable[[Content], None] | None = None,
        *,
        header: str = MESSAGE_ID,
    ) -> None:
        self._found = found
        self._whole = whole
        self._header = header
        self._header_line = f"\r\n{header}: ".encode()
        self.subject = b""
        """The subject of the message that is handed on."""
        self.reply = b""
        """Where it would be acknowledged; that tells its place and its time."""
        self.first_reply = b""
        """The same of the very first message, handed on or not."""
        self._line = re.compile(b"")
        self.received = 0
        self._awaited = 0
        self._moved = asyncio.Event()

    def numbered(self, sid: int) -> None:
        """Take the messages of the subscription with this number."""
        self._line = re.compile(rb"HMSG (\S+) %d (?:(\S+) )?(\d+) (\d+)\r\n" % sid)

    async def until(self, received: int, within: float) -> bool:
        """Wait for so many in all; False when the server ended the batch before, or the time was over."""
        self._awaited = received
        self._moved.clear()
        if self.received >= received:
            return True
        try:
            async with asyncio.timeout(within):
                await self._moved.wait()
        except TimeoutError:
            return False
        return self.received >= received

    def take(self, data: bytes, position: int) -> tuple[int, int]:
        """Count the messages that stand in `data` from `position` on."""
        match, size = self._line.match, len(data)
        count = 0
        while line := match(data, position):
            begin = line.end()
            headers_end = begin + int(line[3])
            end = begin + int(line[4]) + len(LINE_BREAK)
            if end > size:
                break
            self.subject, self.reply = line[1], line[2] or b""
            # The first line ends the version, or tells a status.
            if data.startswith(_STATUS, begin):
                self._moved.set()
            elif self._whole is not None:
                content = data[headers_end : end - len(LINE_BREAK)]
                self._whole(Content(data[begin:headers_end], content, _stored_at(self.reply)))
                self._count("")
            else:
                at = data.find(self._header_line, begin, headers_end)
                if at >= 0:
                    at += len(self._header_line)
                    self._count(data[at : data.find(LINE_BREAK, at)].decode(errors="replace"))
                else:
                    self._count("")
            position = end
            count += 1
        return position, count

    def begins(self, data: bytes, position: int) -> bool:
        """True when an unfinished message of the consumer stands there."""
        return self._line.match(data, position) is not None

    async def on_message(self, message: Msg) -> None:
        """Count a message that came nats-py's way."""
        headers = message.headers or {}
        if "Status" in headers:
            self._moved.set()
            return
        self.subject, self.reply = message.subject.encode(), message.reply.encode()
        if self._whole is not None:
            lines = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
            self._whole(Content(f"{lines}\r\n".encode(), message.data, _stored_at(self.reply)))
        self._count(headers.get(self._header, ""))

    def _count(self, value: str) -> None:
        if not self.received:
            self.first_reply = self.reply
        self.received += 1
        if value and self._found is not None:
            self._found(value)
        if self.received >= self._awaited:
            self._moved.set()


class MessageIds:
    """Reads one stream at a time; `api` begins the subjects of `js`'s requests."""

    def __init__(self, client: Client, js: JetStreamContext, *, api: str = "$JS.API") -> None:
        self._client = client
        self._js = js
        self._api = api

    async def read(self, stream: str, subject: str, begin: datetime, found: Callable[[str], None]) -> None:
        """Tell `found` the ids of the stream's messages since `begin` that stand in it now.

        A message without an id is passed over, and so is a stream that is missing or not ours. Raises
        `DependencyUnavailable` when not all could be read, and nats-py's errors.
        """
        await self.read_into(Batches(found), stream, subject, begin)

    async def read_whole(
        self, stream: str, subject: str, begin: datetime, found: Callable[[Content], None]
    ) -> None:
        """As `read`, with payloads and headers. A message without headers is not told."""
        await self.read_into(Batches(whole=found), stream, subject, begin, headers_only=False)

    async def read_into(
        self,
        batches: Batches,
        stream: str,
        subject: str,
        begin: datetime,
        *,
        at_most: int | None = None,
        headers_only: bool = True,
    ) -> None:
        """As `read`; raises `TooManyMessagesError`, having read none, when there are more than `at_most`."""
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_TIME,
            opt_start_time=begin,
            ack_policy=AckPolicy.NONE,
            filter_subject=subject,
            headers_only=headers_only,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=_KEPT_UNUSED_SECONDS,
            metadata=dict(OURS),
        )
        if not self._client.is_connected:
            raise DependencyUnavailable(DEPENDENCY, "no server accepts the connection")
        try:
            if not is_ours((await self._js.stream_info(stream)).config):
                return
            consumer = await self._js.add_consumer(stream, config)
        except NotFoundError:
            return
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(
            inbox, cb=batches.on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )
        ways: Incoming | None = None
        try:
            known = incoming(self._client, subscription)
            if known is not None:
                ways, sid = known
                batches.numbered(sid)
                ways.use(batches)
            batch = _BATCH if headers_only else _WHOLE_BATCH
            await self._read(consumer, inbox, batches, batch, at_most)
        except NotFoundError:
            # Not all of it was seen: the consumer, or the stream itself, went away in between.
            raise DependencyUnavailable(DEPENDENCY, "a stream was lost while it was read") from None
        finally:
            if ways is not None:
                ways.leave(batches)
            await self._leave(consumer, subscription)

    async def _read(
        self, consumer: ConsumerInfo, inbox: str, batches: Batches, batch: int, at_most: int | None
    ) -> None:
        stream, name = consumer.stream_name, consumer.name
        left = (await self._js.consumer_info(stream, name)).num_pending or 0
        if at_most is not None and left > at_most:
            raise TooManyMessagesError
        while left > 0:
            number = min(left, batch)
            question = {"batch": number, "no_wait": True}
            await self._client.publish(
                f"{self._api}.CONSUMER.MSG.NEXT.{stream}.{name}", msgspec.json.encode(question), reply=inbox
            )
            if await batches.until(batches.received + number, _BATCH_WITHIN):
                left -= number
                continue
            # What was counted may have been removed since: by age, or with its sandbox.
            info = await self._js.consumer_info(stream, name)
            delivered = 0 if info.delivered is None else info.delivered.consumer_seq
            if not await batches.until(delivered, _BATCH_WITHIN):
                raise DependencyUnavailable(DEPENDENCY, "a stream can't be read")
            left = info.num_pending or 0

    async def _leave(self, consumer: ConsumerInfo, subscription: Subscription) -> None:
        try:
            async with asyncio.timeout(_LEAVE_WITHIN):
                await subscription.unsubscribe()
                await self._js.delete_consumer(consumer.stream_name, consumer.name)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            # The server removes a consumer that nobody uses by itself.
            _log.debug("consumer_not_removed", stream=consumer.stream_name, error=type(error).__name__)


def place_of(reply: bytes) -> tuple[int, float] | None:
    """A message's number in its stream and when it was stored; `reply` is where it would be acknowledged."""
    words = reply.split(b".")
    more = 0 if len(words) == _OLD_ACK_WORDS else _NEW_ACK_WORDS
    try:
        return int(words[5 + more]), int(words[7 + more]) / _NANOSECONDS
    except (IndexError, ValueError):
        return None


def _stored_at(reply: bytes) -> float:
    place = place_of(reply)
    return 0.0 if place is None else place[1]
