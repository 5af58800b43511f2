"""Publishing with acknowledgements: many in flight, each kept until JetStream has stored it.

One inbox subscription serves all acknowledgements; the reply subject carries the publication's number,
so no future is made per event. A publication is sent again, with the same message id, after a refusal,
a lost connection or an answer that does not come; JetStream drops what it has stored already
(its `Nats-Msg-Id` de-duplication), so repeating is harmless.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from sandbox_core import subjects
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.lease_trust import LeaseTrust

from .connection import NatsConnection

_log = structlog.get_logger("sandbox.nats")

_STATUS_HEADER = "Status"
_NO_RESPONDERS = "503"
_MESSAGE_TOO_LARGE = 10054  # JetStream's JSStreamMessageExceedsMaximumErr
_HEADER_ROOM = 1024
_SENDS_BETWEEN_YIELDS = 256
_REFUSED_PAUSE = 0.25
_FAILED_PAUSE = 1.0
_SWEEP_INTERVAL = 0.5
_RECOVERY_PAUSES = (0.05, 0.1, 0.25, 0.5, 1.0)


class Publication:
    """One message on its way; `context` is the caller's, handed back when it is acknowledged."""

    __slots__ = ("context", "headers", "is_dead_letter", "number", "payload", "sent_at", "subject")

    def __init__(self, subject: str, payload: bytes, headers: dict[str, str], context: object) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = headers
        self.context = context
        self.is_dead_letter = False
        """True when it could not be published where it belongs."""
        self.number = -1
        self.sent_at = 0.0


class PublisherEvents(Protocol):
    """What the publisher tells its owner, on the event loop."""

    def acknowledged(self, publication: Publication) -> None:
        """JetStream has stored the message (or had stored it before)."""

    def attempt_failed(self, reason: str) -> None:
        """An attempt failed and will be repeated; `reason` is one of a small fixed set."""


class EnsuresStreams(Protocol):
    """Makes missing streams; see `Streams`."""

    async def ensure(self) -> None:
        """Raises `DependencyUnavailable` when NATS does not answer."""


class _PubAckError(msgspec.Struct, gc=False):
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct, gc=False):
    error: _PubAckError | None = None


_pub_ack = msgspec.json.Decoder(_PubAck).decode


class AckPublisher:
    """Publishes until acknowledged. Bounded by its caller, who asks `outstanding`.

    `ack_timeout` is in seconds; `monotonic` is the clock in seconds.
    """

    def __init__(
        self,
        connection: NatsConnection,
        streams: EnsuresStreams,
        events: PublisherEvents,
        *,
        ack_timeout: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._events = events
        self._ack_timeout = ack_timeout
        self._monotonic = monotonic
        self.trust = LeaseTrust()
        """Nothing is sent while it does not hold."""
        self._outstanding: dict[int, Publication] = {}
        self._ready: deque[Publication] = deque()
        self._wake = asyncio.Event()
        self._open = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._refusals: Counter[int] = Counter()
        """How often JetStream refused, by its error code, since it last had taken everything."""
        self._refused_numbers: set[int] = set()
        self._next_number = 0
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovering = False
        self._closed = False

    @property
    def outstanding(self) -> int:
        """Publications taken and not yet acknowledged."""
        return len(self._outstanding)

    @property
    def sending(self) -> bool:
        """True while publications are sent; False while NATS or a stream is away, or leases have lapsed."""
        return self._open.is_set() and self._monotonic() < self.trust.until

    async def start(self) -> None:
        """Subscribe to the acknowledgements and begin to send; the connection must stand."""
        client = self._connection.client
        self._inbox = f"{client.new_inbox()}."
        self._subscription = await client.subscribe(
            f"{self._inbox}*", cb=self._on_reply, pending_msgs_limit=0, pending_bytes_limit=0
        )
        self._connection.on_reconnect.append(self._on_reconnect)
        self._connection.on_disconnect.append(self._on_disconnect)
        self._spawn(self._keep_going(self._pump))
        self._spawn(self._keep_going(self._sweep))
        self._recover()

    async def close(self) -> None:
        """Stop sending; what is not acknowledged by now is left to the caller's replay."""
        self._closed = True
        self._connection.on_reconnect.remove(self._on_reconnect)
        self._connection.on_disconnect.remove(self._on_disconnect)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._subscription is not None and self._connection.connected:
            try:
                await self._subscription.unsubscribe()
            except nats.errors.Error as error:
                _log.debug("inbox_not_unsubscribed", error=type(error).__name__)

    def submit(self, publication: Publication) -> None:
        """Take responsibility for one publication; returns at once."""
        number = self._next_number
        self._next_number = number + 1
        publication.number = number
        self._outstanding[number] = publication
        self._empty.clear()
        self._queue(publication)

    def in_flight(self) -> list[Publication]:
        """What was taken and is not acknowledged yet."""
        return list(self._outstanding.values())

    def withdraw(self, publication: Publication) -> None:
        """Send the publication no more; its acknowledgement, if one still comes, means nothing."""
        del self._outstanding[publication.number]
        if self._refused_numbers:
            self._no_more_refused(publication.number)
        if not self._outstanding:
            self._empty.set()

    async def drained(self) -> None:
        """Return when nothing is outstanding."""
        await self._empty.wait()

    def _queue(self, publication: Publication) -> None:
        self._ready.append(publication)
        self._wake.set()

    async def _keep_going(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except Exception:
                # Whatever it is: without this task nothing would be published any more.
                _log.exception("publisher_task_failed")
                self._wake.set()
                await asyncio.sleep(_FAILED_PAUSE)

    # Sending

    async def _pump(self) -> None:
        sent = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                await self._open.wait()
                now = self._monotonic()
                if now >= self.trust.until:
                    _log.warning("publishing_waits", dependency="PostgreSQL", reason="leases have lapsed")
                    await self.trust.extended()
                    continue
                publication = self._ready.popleft()
                # It was acknowledged by an earlier attempt, or withdrawn, while it waited here.
                if publication.number not in self._outstanding:
                    continue
                await self._send(publication, now)
                sent += 1
                if sent % _SENDS_BETWEEN_YIELDS == 0:
                    await asyncio.sleep(0)

    async def _send(self, publication: Publication, now: float) -> None:
        client = self._connection.client
        try:
            if len(publication.payload) + _HEADER_ROOM > client.max_payload:
                self._spawn(self._shrink(publication))
                return
            publication.sent_at = now
            await client.publish(
                publication.subject,
                publication.payload,
                reply=f"{self._inbox}{publication.number}",
                headers=publication.headers,
            )
        except (nats.errors.Error, OSError) as error:
            # The connection is going: `_on_disconnect` closes the gate, `_on_reconnect` sends again.
            self._events.attempt_failed("connection")
            _log.debug("publish_failed", error=type(error).__name__)
            self._retry_later(publication)
        except Exception:
            # Whatever is wrong with this one, it is tried again, and it does not hold up the others.
            _log.exception("publish_failed", message_id=publication.headers.get("Nats-Msg-Id"))
            self._retry_later(publication, _FAILED_PAUSE)

    async def _shrink(self, publication: Publication) -> None:
        if "Content-Encoding" not in publication.headers:
            # A multi-megabyte frame takes long enough to compress that the loop should not wait for it.
            try:
                publication.payload = await asyncio.to_thread(gzip.compress, publication.payload, 6)
            except Exception:
                # Whatever it is, such as no memory just now: without another try its guild waits for ever.
                _log.exception("publication_not_compressed", bytes=len(publication.payload))
                self._retry_later(publication, _FAILED_PAUSE)
                return
            publication.headers["Content-Encoding"] = "gzip"
        limit = self._connection.client.max_payload - _HEADER_ROOM
        if len(publication.payload) > limit:
            self._to_dead_letter(publication, "TOO_LARGE")
        self._queue(publication)

    def _to_dead_letter(self, publication: Publication, reason: str) -> None:
        _log.error(
            "event_dead_lettered",
            reason=reason,
            subject=publication.subject,
            bytes=len(publication.payload),
            message_id=publication.headers.get("Nats-Msg-Id"),
        )
        self._events.attempt_failed("dead_letter")
        publication.headers["Dead-Letter-Subject"] = publication.subject
        publication.headers["Dead-Letter-Bytes"] = str(len(publication.payload))
        publication.headers["Nats-Expected-Stream"] = subjects.EVENTS_STREAM
        publication.headers.pop("Content-Encoding", None)
        publication.is_dead_letter = True
        publication.subject = subjects.dead_letter_subject(reason)
        publication.payload = b""

    # Acknowledgements

    async def _on_reply(self, message: Msg) -> None:
        try:
            self._answered(message)
        except Exception:
            # An answer that can't be read, or a fault in what follows an acknowledgement: nats-py would
            # hand it to its error callback, which hides it. The next answers are still to be heard.
            _log.exception("answer_not_handled", bytes=len(message.data))

    def _answered(self, message: Msg) -> None:
        number = int(message.subject[len(self._inbox) :])
        publication = self._outstanding.get(number)
        if publication is None:
            return
        if message.headers and message.headers.get(_STATUS_HEADER) == _NO_RESPONDERS:
            # No stream listens on the subject: it is missing, or JetStream is still starting.
            self._events.attempt_failed("no_stream")
            self._open.clear()
            self._retry_later(publication)
            self._recover()
            return
        if b'"error"' in message.data:
            error = _pub_ack(message.data).error
            if error is not None:
                self._refused(publication, error)
                return
        del self._outstanding[number]
        if not self._outstanding:
            self._empty.set()
        if self._refused_numbers:
            self._no_more_refused(number)
        self._events.acknowledged(publication)

    def _refused(self, publication: Publication, error: _PubAckError) -> None:
        self._events.attempt_failed("refused")
        if error.err_code == _MESSAGE_TOO_LARGE and not publication.is_dead_letter:
            publication.sent_at = 0.0
            if "Content-Encoding" not in publication.headers:
                # The stream's own limit is below the server's.
                self._spawn(self._shrink(publication))
                return
            self._to_dead_letter(publication, "TOO_LARGE")
        # Every guild tries again four times a second: a full disk must not be filled by what tells of it.
        if error.err_code not in self._refusals:
            _log.warning("publish_refused", code=error.err_code, description=error.description)
        self._refusals[error.err_code] += 1
        self._refused_numbers.add(publication.number)
        self._retry_later(publication)

    def _no_more_refused(self, number: int) -> None:
        self._refused_numbers.discard(number)
        if not self._refused_numbers:
            _log.info("publish_refusals_over", refusals=dict(self._refusals))
            self._refusals.clear()

    def _retry_later(self, publication: Publication, pause: float = _REFUSED_PAUSE) -> None:
        publication.sent_at = 0.0
        asyncio.get_running_loop().call_later(pause, self._queue, publication)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL)
            self.resend_overdue()

    def resend_overdue(self) -> int:
        """Queue again what was sent longer than the ack timeout ago; returns how many."""
        if not self._open.is_set():
            return 0
        oldest = self._monotonic() - self._ack_timeout
        overdue = [p for p in self._outstanding.values() if 0.0 < p.sent_at < oldest]
        for publication in overdue:
            publication.sent_at = 0.0
            self._events.attempt_failed("ack_timeout")
            self._queue(publication)
        return len(overdue)

    # The connection's comings and goings

    def _on_disconnect(self) -> None:
        self._open.clear()

    def _on_reconnect(self) -> None:
        # What was in flight may be lost or may be stored: only its repetition tells.
        self._open.clear()
        for publication in self._outstanding.values():
            if publication.sent_at > 0.0:
                publication.sent_at = 0.0
                self._ready.append(publication)
        self._wake.set()
        self._recover()

    def _recover(self) -> None:
        if not self._recovering and not self._closed:
            self._recovering = True
            self._spawn(self._ensure_streams())

    async def _ensure_streams(self) -> None:
        attempt = 0
        try:
            while True:
                try:
                    await self._streams.ensure()
                except (DependencyUnavailable, nats.errors.Error) as error:
                    pause = _RECOVERY_PAUSES[min(attempt, len(_RECOVERY_PAUSES) - 1)]
                    attempt += 1
                    if attempt == len(_RECOVERY_PAUSES):
                        _log.warning("publishing_waits", dependency="NATS", reason=str(error))
                    await asyncio.sleep(pause)
                else:
                    break
        finally:
            self._recovering = False
        if self._connection.connected:
            self._open.set()
            self._wake.set()
        else:
            # It went away while the streams were checked; the reconnect starts the next recovery.
            _log.debug("disconnected_during_recovery")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("publisher_task_failed", exc_info=error)
