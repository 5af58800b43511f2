"""Reads the events of a sandbox, or of production, from its stream, in order, and says so when some are lost.

The consumer is one of the account's, and the sandbox's worker may remove it: it is then made again behind the
last event that was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec
import nats.errors
import structlog
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import NotFoundError

from sandbox_core.errors import DependencyUnavailable

from .consumers import OURS
from .errors import translating
from .message_ids import Batches, Content, place_of
from .stream_place import StreamPlace
from .wire import Incoming, incoming

_log = structlog.get_logger("sandbox.nats")

_BATCH = 1000
_EXPIRES = 20.0
"""The seconds after which the server ends a request for events that did not come."""
_BATCH_WITHIN = 2.0
_UNUSED_SECONDS = 60.0
_AGAIN_AFTER = 0.25
_NANOSECONDS = 1_000_000_000
_SHORT_REPLY = 9


class EventsLost(Exception):
    """The stream no longer has all events that were still to be read, or is another one."""


class Stored(NamedTuple):
    """A message of the stream."""

    position: int
    subject: bytes
    content: Content


def _number_of(reply: bytes) -> int | None:
    """Return which message of its consumer it is; see `message_ids`."""
    words = reply.split(b".")
    try:
        return int(words[6 if len(words) == _SHORT_REPLY else 8])
    except (IndexError, ValueError):
        return None


class StreamReader:
    """Reads from behind `position` on, and tells `found` each message.

    `birth` names the stream. With `until` it ends at that position, or with the stream's last event.
    """

    def __init__(
        self,
        place: StreamPlace,
        birth: int,
        position: int,
        found: Callable[[Stored], None],
        *,
        until: int | None = None,
    ) -> None:
        self._place = place
        self._birth = birth
        self.position = position
        """The last event that was read, or where the reading began."""
        self._found = found
        self._until = until
        self._lost = False
        self._interrupted = asyncio.Event()
        self._batches = Batches()
        self._taken = 0
        """How many of the consumer's messages were told."""
        self._early: dict[int, tuple[int, Content, bytes]] = {}
        """Those that came before their turn, by their numbers."""

    async def run(self) -> None:
        """Read. Raises `EventsLost`; with `until` `DependencyUnavailable`, where it else waits."""
        while True:
            try:
                if await self._read():
                    return
            except DependencyUnavailable as error:
                if self._until is not None:
                    raise
                _log.debug("stream_reading_waits", reason=error.reason)
                await asyncio.sleep(_AGAIN_AFTER)

    async def _read(self) -> bool:
        """Read with one consumer, as long as there is one. Return whether all was read."""
        place = self._place
        state = await place.state()
        if state.birth != self._birth or state.last < self.position or state.first > self.position + 1:
            raise EventsLost
        if self._until is not None and self.position >= self._until:
            return True
        batches = self._batches = Batches(whole=self._take)
        self._taken, self._early = 0, {}
        with translating():
            consumer = await place.js.add_consumer(place.stream, self._config())
            inbox = place.connection.client.new_inbox()
            subscription = await place.connection.client.subscribe(
                inbox, cb=batches.on_message, pending_msgs_limit=0, pending_bytes_limit=0
            )
        ways: Incoming | None = None
        disconnected = place.connection.on_disconnect
        self._interrupted.clear()
        disconnected.append(self._interrupted.set)
        try:
            known = incoming(place.connection.client, subscription)
            if known is not None:
                ways, sid = known
                batches.numbered(sid)
                ways.use(batches)
            return await self._pull(consumer, inbox, batches)
        finally:
            disconnected.remove(self._interrupted.set)
            if ways is not None:
                ways.leave(batches)
            await self._leave(consumer, subscription)

    def _config(self) -> ConsumerConfig:
        return ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.position + 1,
            ack_policy=AckPolicy.NONE,
            filter_subject=self._place.read_subject or self._place.subject,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=_UNUSED_SECONDS,
            metadata=dict(OURS),
        )

    async def _pull(self, consumer: ConsumerInfo, inbox: str, batches: Batches) -> bool:
        place = self._place
        question = {"batch": _BATCH, "expires": int(_EXPIRES * _NANOSECONDS)}
        if self._until is not None:
            question = {"batch": _BATCH, "no_wait": True}
        subject = f"{place.api}.CONSUMER.MSG.NEXT.{consumer.stream_name}.{consumer.name}"
        encoded = msgspec.json.encode(question)
        while not self._interrupted.is_set():
            begun = batches.received
            with translating():
                await place.connection.client.publish(subject, encoded, reply=inbox)
            whole = await self._batch(batches, begun + _BATCH)
            if self._lost:
                raise EventsLost
            if whole:
                continue
            with translating():
                try:
                    info = await place.js.consumer_info(consumer.stream_name, consumer.name)
                except NotFoundError:
                    return False
            delivered = 0 if info.delivered is None else info.delivered.consumer_seq
            if not await batches.until(delivered, _BATCH_WITHIN):
                return False
            if self._until is not None and (self.position >= self._until or not info.num_pending):
                return True
        return False

    async def _batch(self, batches: Batches, received: int) -> bool:
        """Wait for a whole batch; False when the server has ended it before, or the connection was lost."""
        waiting = asyncio.ensure_future(batches.until(received, _EXPIRES + _BATCH_WITHIN))
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        try:
            await asyncio.wait({waiting, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.done() and waiting.result()
        finally:
            waiting.cancel()
            interrupted.cancel()
            await asyncio.gather(waiting, interrupted, return_exceptions=True)

    def _take(self, content: Content) -> None:
        """Tell what came in the consumer's order: of two messages one may take nats-py's longer way."""
        number = _number_of(self._batches.reply)
        place = place_of(self._batches.reply)
        if number is None or place is None:
            return
        self._early[number] = (place[0], content, self._batches.subject)
        while (following := self._early.pop(self._taken + 1, None)) is not None:
            self._taken += 1
            self._tell(*following)

    def _tell(self, position: int, content: Content, subject: bytes) -> None:
        if self._lost or position <= self.position:
            return
        if self._place.own and position != self.position + 1:
            self._lost = True
            self._interrupted.set()
            return
        self.position = position
        if self._place.is_event(subject):
            self._found(Stored(position, subject, content))

    async def _leave(self, consumer: ConsumerInfo, subscription: Subscription) -> None:
        # The server removes a consumer that nobody uses by itself.
        with suppress(nats.errors.Error, OSError, TimeoutError, NotFoundError):
            async with asyncio.timeout(_BATCH_WITHIN):
                await subscription.unsubscribe()
                await self._place.js.delete_consumer(consumer.stream_name, consumer.name)
