"""Which events of a gateway session are stored already.

A process that goes on with another one's session gets what is not known to be acknowledged once more, by
replay. A repeated message id makes that harmless only within one stream: a guild whose route changed in
between would find the event on both sides. So what the streams hold is asked for first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from .duplicates import own_id
from .errors import translating
from .every_stream import Reads

_log = structlog.get_logger("sandbox.nats")

# The moment comes from another machine's clock.
CLOCK_MARGIN = 15.0


class _Question:
    """One session's sequences, as they are found."""

    def __init__(self, session_id: str, shard_id: int, after: int, since: float) -> None:
        self.session = f"{session_id}:{shard_id}"
        self.after = after
        self.since = since
        self.found: set[int] = set()
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class StoredEvents:
    """Finds sessions' sequences in the streams that `reads` reads.

    What is asked while a reading goes on is answered by the next one, together: a process takes all the
    shards of one that died in the same moment. A reading goes on for at most `within` seconds; without, to
    its end.
    """

    def __init__(self, reads: Reads, *, within: float | None = None) -> None:
        self._reads = reads
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

        def found(message_id: str) -> None:
            session, _, sequence = own_id(message_id).rpartition(":")
            for question in questions.get(session, ()):
                if sequence.isdigit() and int(sequence) > question.after:
                    question.found.add(int(sequence))

        since = min(question.since for question in asked)
        begin = datetime.fromtimestamp(max(since - CLOCK_MARGIN, 0.0), UTC)
        try:
            async with asyncio.timeout(self._within) as limit:
                await self._reads.read(begin, found)
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
