"""Publishing with acknowledgements: many in flight, each kept until JetStream has stored it.

A publication is sent again, with the same message id, after a refusal, a lost connection or an answer that
does not come; JetStream drops what it has stored already (its `Nats-Msg-Id` de-duplication), so repeating is
harmless within the streams' duplicate window. Beyond it the streams are asked first.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

import nats.errors
import structlog

from sandbox_core import tasks
from sandbox_core.lease_trust import LeaseTrust
from sandbox_core.subjects import DEFAULT_NAMES, SLOT_STREAM, StreamNames

from .ack_inbox import STEP, OneInbox, PubAckError
from .connection import NatsConnection
from .duplicates import Duplicates
from .gate import Gate
from .late import KnowsStored, LateResends
from .patience import Patience
from .placed import Places, wire_of
from .publication import Publication, PublisherEvents
from .recovery import EnsuresStreams
from .refusals import RefusalLog
from .streams import DUPLICATE_WINDOW
from .sweep import Sweep
from .too_large import HEADER_ROOM, TooLarge

_log = structlog.get_logger("sandbox.nats")

_MESSAGE_TOO_LARGE = 10054  # JetStream's JSStreamMessageExceedsMaximumErr
_SENDS_BETWEEN_YIELDS = 256
_REFUSED_PAUSE = 0.25
_FAILED_PAUSE = 1.0
_OVERDUE = 2.0
_ANSWER_WITHIN = 1


class AckPublisher:
    """Publishes until acknowledged. Bounded by its caller, who asks `outstanding`.

    `stored` tells what the streams hold of what was sent longer than their `duplicate_window` ago; without
    it such a publication is simply sent again. `names` are the streams'. `ack_timeout` is in
    seconds; `monotonic` is the clock in seconds. `trust` is a lease's, by default one of its own; `beside` is
    another publisher on the same connection. With `patience` a publication is given up when that ends. With
    `places` each sandbox's events go to a place of their own.
    """

    def __init__(
        self,
        connection: NatsConnection,
        streams: EnsuresStreams,
        events: PublisherEvents,
        *,
        stored: KnowsStored | None = None,
        names: StreamNames = DEFAULT_NAMES,
        duplicate_window: timedelta = DUPLICATE_WINDOW,
        ack_timeout: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
        trust: LeaseTrust | None = None,
        beside: AckPublisher | None = None,
        patience: Patience | None = None,
        places: Places | None = None,
    ) -> None:
        self._connection = connection
        self._client = connection.client
        self._streams = streams
        self.events = events
        self._monotonic = monotonic
        self.trust: LeaseTrust = trust or LeaseTrust()
        """Nothing is sent while it does not hold."""
        self._wire = wire_of(self._client, self._may_send, places)
        self._duplicates = Duplicates(self._client, self, places)
        self._reply = ""
        self._late: LateResends | None = None
        if stored is not None:
            window = duplicate_window.total_seconds()
            self._late = LateResends(stored, self, duplicate_window=window, monotonic=monotonic)
        self.awaited: dict[int, Publication] = {}
        self._ready: deque[Publication] = deque()
        """What could not be sent at once, or has to be sent again."""
        self._wake = asyncio.Event()
        self._empty: asyncio.Event | None = None
        """Set when nothing is outstanding, while somebody waits for that."""
        self._refusals = RefusalLog(
            names.stream_of if places is None else _slot_stream, lambda: connection.server
        )
        self.inbox: OneInbox = OneInbox(self._client) if beside is None else beside.inbox
        self._next_number = self.inbox.join(self)
        self._gate = Gate(connection, streams, self._prepare)
        self._too_large = TooLarge(connection, self, self._gate, names, monotonic)
        self.sweep = Sweep(
            connection, self, self._gate, self._refusals, patience, ack_timeout=ack_timeout, now=monotonic
        )
        """Sends again what was not answered, and gives up what the patience ended with."""
        self.started = False
        """True in a process that publishes."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def outstanding(self) -> int:
        """Publications taken and not yet acknowledged."""
        return len(self.awaited)

    @property
    def sending(self) -> bool:
        """True while publications are sent; False while NATS or a stream is away, or leases have lapsed."""
        return self._gate.is_open and self._may_send()

    @property
    def refused(self) -> str:
        """What JetStream does not take, and why; "" when it takes everything."""
        return self._refusals.trouble

    @property
    def takes(self) -> bool:
        """True while publications are sent, none is refused, and the oldest is not long overdue."""
        if not self.sending or self._refusals.trouble:
            return False
        oldest = next(iter(self.awaited.values()), None)
        since = 0.0 if oldest is None else oldest.unanswered_since
        return not since or self._monotonic() - since < _OVERDUE

    async def answers(self) -> bool:
        """Whether the server answers at all, in a second at most."""
        try:
            await self._client.flush(_ANSWER_WITHIN)
        except (nats.errors.Error, OSError, TimeoutError):
            return False
        return True

    def _may_send(self) -> bool:
        return self._monotonic() < self.trust.until

    async def start(self) -> None:
        """Begin to send, as soon as the connection stands and there is a stream."""
        self.started = True
        self._connection.on_reconnect.append(self._on_reconnect)
        self._connection.on_disconnect.append(self._on_disconnect)
        self._too_large.limit_is_known()
        self._spawn(self._keep_going(self._pump))
        self._spawn(self._keep_going(self.sweep.run))
        self._gate.recover()

    async def close(self) -> None:
        """Stop sending; what is not acknowledged by now is left to the caller's replay."""
        self._connection.on_reconnect.remove(self._on_reconnect)
        self._connection.on_disconnect.remove(self._on_disconnect)
        await self._gate.close()
        await tasks.end(*self._tasks)
        if self._late is not None:
            await self._late.close()
        await self.inbox.close(self, connected=self._connection.connected)

    def submit(self, publication: Publication) -> None:
        """Take responsibility for one publication; returns at once."""
        number = self._next_number
        self._next_number = number + STEP
        publication.number = number
        self.awaited[number] = publication
        # Nearly always it can be sent here and now; whatever hinders it is the pump's.
        if self._ready or not self._gate.is_open:
            self.queue(publication)
            return
        now = self._monotonic()
        try:
            if now >= self.trust.until or not self._put(publication, now):
                self.queue(publication)
        except Exception:
            # Whatever is wrong with this one, it must not hold up the others.
            self._failed(publication)

    def in_flight(self) -> list[Publication]:
        """What was taken and is not acknowledged yet."""
        return list(self.awaited.values())

    def withdraw(self, publication: Publication) -> None:
        """Send the publication no more; its acknowledgement, if one still comes, means nothing."""
        self.awaited.pop(publication.number, None)
        self._refusals.withdrawn(publication.number)
        if self._empty is not None and not self.awaited:
            self._empty.set()

    async def drained(self) -> None:
        """Return when nothing is outstanding."""
        while self.awaited:
            self._empty = asyncio.Event()
            await self._empty.wait()

    def queue(self, publication: Publication) -> None:
        """Send it, perhaps again, as soon as that can be done."""
        self._ready.append(publication)
        self._wake.set()

    async def _keep_going(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        def failed() -> None:
            _log.exception("publisher_task_failed")
            self._wake.set()

        await tasks.repeat(work, failed=failed, pause=_FAILED_PAUSE)

    # Sending

    def _put(self, publication: Publication, now: float) -> bool:
        """Send it if that needs no waiting."""
        payload = publication.payload
        if len(payload) + HEADER_ROOM > self._client.max_payload:
            return False
        reply = f"{self._reply}{publication.number}"
        if not self._wire.put(publication.label, publication.message_id, reply, payload):
            return False
        # As in `_note_sending`, and not shared with it: every event would pay for the call.
        publication.sent_at = now
        publication.unanswered += 1
        if publication.unanswered == 1:
            publication.unanswered_since = now
        return True

    async def _pump(self) -> None:
        sent = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                await self._gate.opened()
                if self._wire.full:
                    # Meanwhile anything below may change.
                    await self._wire.room()
                    continue
                now = self._monotonic()
                if now >= self.trust.until:
                    _log.warning("publishing_waits", dependency="PostgreSQL", reason="leases have lapsed")
                    await self.trust.extended()
                    continue
                publication = self._ready.popleft()
                # It was acknowledged by an earlier attempt, or withdrawn, while it waited here.
                if publication.number not in self.awaited:
                    continue
                await self._send(publication, now)
                sent += 1
                if sent % _SENDS_BETWEEN_YIELDS == 0:
                    await asyncio.sleep(0)

    async def _send(self, publication: Publication, now: float) -> None:
        try:
            if self._late is not None and self._late.is_late(publication, now):
                self._late.ask(publication)
            elif len(publication.payload) + HEADER_ROOM > self._client.max_payload:
                self._spawn(self._too_large.shrink(publication))
            elif not self._put(publication, now):
                reply = f"{self._reply}{publication.number}"
                await self._wire.send(publication.subject, reply, publication.headers, publication.payload)
                _note_sending(publication, now)
        except (nats.errors.Error, OSError) as error:
            # The connection is going: `_on_disconnect` closes the gate, `_on_reconnect` sends again.
            self.events.attempt_failed("connection")
            _log.debug("publish_failed", error=type(error).__name__)
            self.retry_later(publication)
        except Exception:
            # Whatever is wrong with this one, it must not hold up the others.
            self._failed(publication)

    def _failed(self, publication: Publication) -> None:
        """Log what is being handled, and try again later."""
        _log.exception("publish_failed", message_id=publication.message_id)
        self.retry_later(publication, _FAILED_PAUSE)

    # Answers

    def stored(self, numbers: Sequence[int]) -> None:
        """JetStream has these publications."""
        off = self.awaited.pop
        publications = [found for number in numbers if (found := off(number, None)) is not None]
        self.are_off(numbers)
        if publications:
            self.events.acknowledged(publications)

    def are_off(self, numbers: Sequence[int]) -> None:
        """These are not awaited any more, as far as they were."""
        if self._refusals.trouble:
            self._refusals.no_more(numbers)
        if self._empty is not None and not self.awaited:
            self._empty.set()

    def duplicate(self, number: int, sequence: int) -> None:
        """JetStream has a message of this id: it is looked whether that is the event."""
        publication = self.awaited.get(number)
        if publication is not None:
            publication.sent_at = 0.0
            self._spawn(self._duplicates.judge(publication, sequence))

    def not_stored(self, number: int, error: PubAckError) -> None:
        """JetStream refused an attempt."""
        publication = self.awaited.get(number)
        if publication is None:
            return
        self.events.attempt_failed("refused")
        publication.was_not_stored()
        if error.err_code == _MESSAGE_TOO_LARGE and not publication.is_dead_letter:
            publication.sent_at = 0.0
            if "Content-Encoding" not in publication.label.headers:
                # The stream's own limit is below the server's.
                self._spawn(self._too_large.shrink(publication))
                return
            self._too_large.to_dead_letter(publication)
        self._refusals.refused(publication, error)
        self.retry_later(publication)

    def no_stream(self, number: int) -> None:
        """Nobody was there to take an attempt."""
        publication = self.awaited.get(number)
        if publication is None:
            return
        self.events.attempt_failed("no_stream")
        publication.was_not_stored()
        self._gate.shut()
        self.retry_later(publication)
        self._gate.recover()

    def found(self, publication: Publication) -> None:
        """A stream holds what would have been sent late."""
        self.stored((publication.number,))

    def missing(self, publication: Publication) -> None:
        """No stream holds it: none of the attempts so far arrived."""
        publication.unanswered = 0
        publication.unanswered_since = 0.0
        self.queue(publication)

    def not_judged(self, publication: Publication) -> None:
        """Nobody knows whether a stream holds it. Nothing more is sent until the stream can be read."""
        self.events.attempt_failed("not_judged")
        self._gate.shut()
        self.retry_later(publication)
        self._gate.recover()

    def id_taken(self, publication: Publication) -> None:
        """Somebody else has used its id."""
        self.events.attempt_failed("id_taken")
        self.missing(publication)

    def retry_later(self, publication: Publication, pause: float = _REFUSED_PAUSE) -> None:
        """Send it again after a pause."""
        publication.sent_at = 0.0
        asyncio.get_running_loop().call_later(pause, self.queue, publication)

    # The connection's comings and goings

    def _on_disconnect(self) -> None:
        self._gate.shut()
        self._wire.drop()

    def _on_reconnect(self) -> None:
        # What was in flight may be lost or may be stored: only its repetition tells.
        self._gate.shut()
        self._too_large.limit_is_known()
        if self._client.enforces_less:
            # One of these ended the connection, and would end each that follows: the largest.
            sizes = [len(each.payload) for each in self.inbox.in_flight() if each.sent_at > 0.0]
            self._client.lower_max_payload(max(sizes, default=HEADER_ROOM) + HEADER_ROOM - 1)
        for publication in self.awaited.values():
            if publication.sent_at > 0.0:
                publication.sent_at = 0.0
                self._ready.append(publication)
        self._wake.set()
        self._gate.recover()

    async def _prepare(self) -> None:
        self._reply = await self.inbox.open()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("publisher_task_failed", exc_info=error)


def _note_sending(publication: Publication, now: float) -> None:
    publication.sent_at = now
    publication.unanswered += 1
    if publication.unanswered == 1:
        publication.unanswered_since = now


def _slot_stream(_subject: str) -> str:
    return SLOT_STREAM
