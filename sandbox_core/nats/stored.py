"""Which events of a gateway session are stored already.

A process that goes on with another one's session gets what is not known to be acknowledged once more, by
replay. A repeated message id makes that harmless only within one stream: a guild whose route changed in
between would find the event on both sides. So what the streams hold is asked for first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import nats.errors
import structlog
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from sandbox_core import subjects
from sandbox_core.errors import DependencyUnavailable

from .errors import translating

if TYPE_CHECKING:
    from nats.js import JetStreamContext

_log = structlog.get_logger("sandbox.nats")

_BATCH = 500
_FETCH_WITHIN = 2.0
_READ_WITHIN = 10.0
_LEAVE_WITHIN = 1.0
_KEPT_UNUSED_SECONDS = 30.0
# The moment comes from another machine's clock.
_CLOCK_MARGIN = 15.0
_STREAMS = (
    (subjects.EVENTS_STREAM, subjects.EVENTS_SUBJECTS),
    (subjects.SANDBOX_STREAM, subjects.SANDBOX_SUBJECTS),
)


class _Question:
    """One session's sequences, as they are found."""

    def __init__(self, session_id: str, shard_id: int, after: int, since: float) -> None:
        self.session = f"{session_id}:{shard_id}"
        self.after = after
        self.since = since
        self.found: set[int] = set()
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class StoredEvents:
    """Reads message ids from both streams, without their payloads.

    A reading goes on for at most `within` seconds. What is asked while one goes on is answered by the next
    one, together: a process takes all the shards of one that died in the same moment.
    """

    def __init__(self, js: JetStreamContext, *, within: float = _READ_WITHIN) -> None:
        self._js = js
        self._within = within
        self._asked: list[_Question] = []
        self._reader: asyncio.Task[None] | None = None

    async def sequences(self, session_id: str, shard_id: int, *, after: int, since: float) -> set[int]:
        """The session's sequences beyond `after` that were stored since (seconds since the epoch).

        A missing stream holds none. When the time is over, those found by then are returned. Raises
        `DependencyUnavailable` when NATS is away.
        """
        question = _Question(session_id, shard_id, after, since)
        self._asked.append(question)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._answer(), name="stored-events")
        await question.answered
        return question.found

    async def _answer(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            try:
                with translating():
                    await self._read(asked)
            except Exception as error:
                # Also an unforeseen one goes to those who asked; else they would wait for ever.
                for question in asked:
                    if not question.answered.done():
                        question.answered.set_exception(error)
            finally:
                for question in asked:
                    # Done already, when who asked was cancelled.
                    if not question.answered.done():
                        question.answered.set_result(None)

    async def _read(self, asked: Sequence[_Question]) -> None:
        started = time.perf_counter()
        questions: dict[str, list[_Question]] = {}
        for question in asked:
            questions.setdefault(question.session, []).append(question)
        since = min(question.since for question in asked)
        try:
            async with asyncio.timeout(self._within) as limit:
                for stream, subject in _STREAMS:
                    await self._collect(stream, subject, since, questions)
        except TimeoutError:
            # NATS's own means that it does not answer.
            if not limit.expired():
                raise
            # Better an event on two sides, if its guild's route changed just now, than none at all.
            log, event = _log.error, "stored_events_not_read_to_the_end"
        else:
            log, event = _log.info, "stored_events_read"
        log(
            event,
            sessions=len(questions),
            stored=sum(len(question.found) for question in asked),
            seconds=round(time.perf_counter() - started, 3),
        )

    async def _collect(
        self, stream: str, subject: str, since: float, questions: Mapping[str, Sequence[_Question]]
    ) -> None:
        begin = datetime.fromtimestamp(max(since - _CLOCK_MARGIN, 0.0), UTC)
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_TIME,
            opt_start_time=begin,
            ack_policy=AckPolicy.NONE,
            headers_only=True,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=_KEPT_UNUSED_SECONDS,
        )
        try:
            subscription = await self._js.pull_subscribe(subject, stream=stream, config=config)
        except NotFoundError:
            return
        try:
            left = (await subscription.consumer_info()).num_pending or 0
            while left > 0:
                try:
                    messages = await subscription.fetch(min(left, _BATCH), timeout=_FETCH_WITHIN)
                except nats.errors.TimeoutError:
                    # What was counted may have been removed since: by age, or with its sandbox.
                    left = (await subscription.consumer_info()).num_pending or 0
                    if left:
                        raise DependencyUnavailable("NATS", "a stream can't be read") from None
                    break
                left -= len(messages)
                for message in messages:
                    identity = (message.headers or {}).get("Nats-Msg-Id", "")
                    session, _, sequence = identity.rpartition(":")
                    for question in questions.get(session, ()):
                        if sequence.isdigit() and int(sequence) > question.after:
                            question.found.add(int(sequence))
        except NotFoundError:
            # Not all of it was seen: the consumer, or the stream itself, went away in between.
            raise DependencyUnavailable("NATS", "a stream was lost while it was read") from None
        finally:
            await self._leave(stream, subscription)

    async def _leave(self, stream: str, subscription: JetStreamContext.PullSubscription) -> None:
        try:
            async with asyncio.timeout(_LEAVE_WITHIN):
                info = await subscription.consumer_info()
                await subscription.unsubscribe()
                await self._js.delete_consumer(stream, info.name)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            # The server removes a consumer that nobody uses by itself.
            _log.debug("consumer_not_removed", stream=stream, error=type(error).__name__)
