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
from sandbox_core.subjects import DEFAULT_NAMES, StreamNames

from .ack_inbox import STEP, OneInbox, PubAckError
from .connection import NatsConnection
from .duplicates import Duplicates
from .late import KnowsStored, LateResends
from .patience import Patience
from .placed import Places, wire_of
from .publication import Publication, PublisherEvents
from .recovery import EnsuresStreams, usable
from .refusals import RefusalLog
from .streams import DUPLICATE_WINDOW
from .too_large import HEADER_ROOM, compress, make_dead_letter

_log = structlog.get_logger("sandbox.nats")

_MESSAGE_TOO_LARGE = 10054  # JetStream's JSStreamMessageExceedsMaximumErr
_SENDS_BETWEEN_YIELDS = 256
_REFUSED_PAUSE = 0.25
_FAILED_PAUSE = 1.0
_SWEEP_INTERVAL = 0.5
_OVERDUE = 2.0
_ANSWER_WITHIN = 1
_LIMIT_HOLDS = 10.0
"""How long the server's `max_payload` counts as known: it can change, and only a new connection tells."""


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
        self._names = names
        self._ack_timeout = ack_timeout
        self._monotonic = monotonic
        self.trust: LeaseTrust = trust or LeaseTrust()
        """Nothing is sent while it does not hold."""
        self._patience = patience
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
        self._open = asyncio.Event()
        self._is_open = False
        """As `_open` says, which is a call."""
        self._empty: asyncio.Event | None = None
        """Set when nothing is outstanding, while somebody waits for that."""
        self._refusals = RefusalLog(names, lambda: connection.server)
        self._limit_known_at = 0.0
        self.inbox: OneInbox = OneInbox(self._client) if beside is None else beside.inbox
        self._next_number = self.inbox.join(self)
        self.started = False
        """True in a process that publishes."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def outstanding(self) -> int:
        """Publications taken and not yet acknowledged."""
        return len(self.awaited)

    @property
    def sending(self) -> bool:
        """True while publications are sent; False while NATS or a stream is away, or leases have lapsed."""
        return self._open.is_set() and self._may_send()

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
        self._limit_known_at = self._monotonic()
        self._spawn(self._keep_going(self._pump))
        self._spawn(self._keep_going(self._sweep))
        self._recover()

    async def close(self) -> None:
        """Stop sending; what is not acknowledged by now is left to the caller's replay."""
        self._closed = True
        self._shut()
        self._connection.on_reconnect.remove(self._on_reconnect)
        self._connection.on_disconnect.remove(self._on_disconnect)
        # nats-py loses a cancellation now and then, and the recovery would go on for ever.
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
        if self._ready or not self._is_open:
            self._queue(publication)
            return
        now = self._monotonic()
        try:
            if now >= self.trust.until or not self._put(publication, now):
                self._queue(publication)
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

    def _queue(self, publication: Publication) -> None:
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
                await self._open.wait()
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
                self._spawn(self._shrink(publication))
            elif not self._put(publication, now):
                reply = f"{self._reply}{publication.number}"
                await self._wire.send(publication.subject, reply, publication.headers, publication.payload)
                _note_sending(publication, now)
        except (nats.errors.Error, OSError) as error:
            # The connection is going: `_on_disconnect` closes the gate, `_on_reconnect` sends again.
            self.events.attempt_failed("connection")
            _log.debug("publish_failed", error=type(error).__name__)
            self._retry_later(publication)
        except Exception:
            # Whatever is wrong with this one, it must not hold up the others.
            self._failed(publication)

    def _failed(self, publication: Publication) -> None:
        """Log what is being handled, and try again later."""
        _log.exception("publish_failed", message_id=publication.message_id)
        self._retry_later(publication, _FAILED_PAUSE)

    async def _shrink(self, publication: Publication) -> None:
        try:
            await compress(publication)
        except Exception:
            # Whatever it is, such as no memory just now: without another try its guild waits for ever.
            _log.exception("publication_not_compressed", bytes=len(publication.payload))
            self._retry_later(publication, _FAILED_PAUSE)
            return
        if len(publication.payload) + HEADER_ROOM > self._client.max_payload:
            if self._monotonic() - self._limit_known_at > _LIMIT_HOLDS:
                # Whoever has reloaded the server with a higher limit since has told nobody.
                self._shut()
                await self._client.connect_anew()
            else:
                self._to_dead_letter(publication)
        self._queue(publication)

    def _to_dead_letter(self, publication: Publication) -> None:
        self.events.attempt_failed("dead_letter")
        make_dead_letter(publication, self._names)

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
                self._spawn(self._shrink(publication))
                return
            self._to_dead_letter(publication)
        self._refusals.refused(publication, error)
        self._retry_later(publication)

    def no_stream(self, number: int) -> None:
        """Nobody was there to take an attempt."""
        publication = self.awaited.get(number)
        if publication is None:
            return
        self.events.attempt_failed("no_stream")
        publication.was_not_stored()
        self._shut()
        self._retry_later(publication)
        self._recover()

    def found(self, publication: Publication) -> None:
        """A stream holds what would have been sent late."""
        self.stored((publication.number,))

    def missing(self, publication: Publication) -> None:
        """No stream holds it: none of the attempts so far arrived."""
        publication.unanswered = 0
        publication.unanswered_since = 0.0
        self._queue(publication)

    def not_judged(self, publication: Publication) -> None:
        """Nobody knows whether a stream holds it. Nothing more is sent until the stream can be read."""
        self.events.attempt_failed("not_judged")
        self._shut()
        self._retry_later(publication)
        self._recover()

    def id_taken(self, publication: Publication) -> None:
        """Somebody else has used its id."""
        self.events.attempt_failed("id_taken")
        self.missing(publication)

    def _retry_later(self, publication: Publication, pause: float = _REFUSED_PAUSE) -> None:
        publication.sent_at = 0.0
        asyncio.get_running_loop().call_later(pause, self._queue, publication)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL)
            self.resend_overdue()
            if self._patience is not None and self.awaited:
                if await self._patience.answers():
                    self.give_up()
                else:
                    self._patience.begin_anew()
            self._refusals.look()

    def resend_overdue(self) -> int:
        """Queue again what was sent longer than the ack timeout ago; returns how many."""
        if not self._open.is_set():
            return 0
        oldest = self._monotonic() - self._ack_timeout
        overdue = [p for p in self.awaited.values() if 0.0 < p.sent_at < oldest]
        for publication in overdue:
            publication.sent_at = 0.0
            self.events.attempt_failed("ack_timeout")
            self._refusals.unanswered(publication, self._ack_timeout)
            self._queue(publication)
        return len(overdue)

    def give_up(self) -> None:
        """Give up those publications with which the patience has ended."""
        if self._patience is None:
            return
        now = self._monotonic()
        ended = self._patience.ended(
            self.in_flight(), now, is_open=self._is_open, is_away=not self._connection.connected
        )
        for publication, reason, before in ended:
            # What another one's end led to may have ended this one.
            if publication.number in self.awaited:
                self.withdraw(publication)
                self.events.given_up(publication, reason, before)
            if reason == "no_ack":
                # Perhaps the stream is one that never answers: look at it again.
                self._shut()
                self._recover()

    # The connection's comings and goings

    def _on_disconnect(self) -> None:
        self._shut()
        self._wire.drop()

    def _on_reconnect(self) -> None:
        # What was in flight may be lost or may be stored: only its repetition tells.
        self._shut()
        self._limit_known_at = self._monotonic()
        if self._client.enforces_less:
            # One of these ended the connection, and would end each that follows: the largest.
            sizes = [len(each.payload) for each in self.inbox.in_flight() if each.sent_at > 0.0]
            self._client.lower_max_payload(max(sizes, default=HEADER_ROOM) + HEADER_ROOM - 1)
        for publication in self.awaited.values():
            if publication.sent_at > 0.0:
                publication.sent_at = 0.0
                self._ready.append(publication)
        self._wake.set()
        self._recover()

    def _shut(self) -> None:
        self._is_open = False
        self._open.clear()

    def _recover(self) -> None:
        if not self._closed and (self._recovery is None or self._recovery.done()):
            self._recovery = self._spawn(self._open_again())

    async def _open_again(self) -> None:
        await self._connection.stands()
        await usable(self._streams)
        self._reply = await self.inbox.open()
        if self._connection.connected:
            self._is_open = True
            self._open.set()
            self._wake.set()
        else:
            # It went away while the streams were checked; the reconnect starts the next recovery.
            _log.debug("disconnected_during_recovery")

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
