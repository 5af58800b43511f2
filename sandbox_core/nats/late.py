"""Publications whose answer is so long overdue that sending them again could store them twice.

JetStream recognises a repeated message id only within the stream's duplicate window. What was sent before
an outage longer than that may have been stored, its answer lost: so the streams are asked first what they
hold, once for all such publications, and only what they don't hold is sent.

What a stream has dropped since, such as the sandboxes' stream after five minutes, it can't answer for: that
is sent.

A longer window instead would have to outlast every outage. nats-server 2.15 takes some 240 bytes for an id as
long as the window lasts: at 2,000 events a second 0.14 GB for the present five minutes, 1.7 GB for an hour,
41 GB for a day; and a restart takes some 8 us more for each. The sandboxes' stream can't have a window longer
than it keeps messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from sandbox_core import tasks
from sandbox_core.errors import DependencyUnavailable

from .duplicates import own_id
from .publication import Publication

_log = structlog.get_logger("sandbox.nats")

# A message travels for a while between being sent and being compared with the window.
_MARGIN = 0.2
_PAUSE = 1.0


class KnowsStored(Protocol):
    """Reads what the streams hold; see `StoredEvents`."""

    async def sequences(self, session_id: str, shard_id: int, *, after: int, since: float) -> set[int]: ...


class Judged(Protocol):
    """What is done with a publication when the streams have been read, on the event loop."""

    def found(self, publication: Publication) -> None:
        """A stream holds it."""

    def missing(self, publication: Publication) -> None:
        """None does; it may be sent."""


class LateResends:
    """Asks for late publications. `duplicate_window` is in seconds.

    `monotonic` is the clock of the publications' times, `now` the wall clock, both in seconds.
    """

    def __init__(
        self,
        stored: KnowsStored,
        judged: Judged,
        *,
        duplicate_window: float,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._stored = stored
        self._judged = judged
        self._monotonic = monotonic
        self._now = now
        self._trusted = duplicate_window * (1 - _MARGIN)
        self._waiting: list[tuple[Publication, float]] = []
        self._asking = tasks.OnDemand(self._ask_all, "late-resends")

    def is_late(self, publication: Publication, now: float) -> bool:
        """True when it may have been stored before what the duplicate window surely covers."""
        since = publication.unanswered_since
        return since > 0.0 and now - since >= self._trusted

    def ask(self, publication: Publication) -> None:
        """Find out whether it is stored; `judged` is told later. It must not be sent meanwhile."""
        self._waiting.append((publication, publication.unanswered_since))
        self._asking.begin()

    async def close(self) -> None:
        """Ask no more; those asked for are judged no more."""
        await self._asking.close()

    async def _ask_all(self) -> None:
        while self._waiting:
            # Those that become due in the same moment are asked for together.
            await asyncio.sleep(0)
            waiting, self._waiting = self._waiting, []
            asked = [publication for publication, _ in waiting]
            since = self._now() - (self._monotonic() - min(since for _, since in waiting))
            said = False
            while True:
                try:
                    await self._ask(asked, since)
                    break
                except DependencyUnavailable as error:
                    if not said:
                        _log.warning(
                            "late_resends_wait",
                            publications=len(asked),
                            dependency=error.dependency,
                            reason=error.reason,
                        )
                    said = True
                except Exception:
                    # Whatever it is: without this task their guilds would wait for ever.
                    _log.exception("late_resends_not_judged", publications=len(asked))
                await asyncio.sleep(_PAUSE)

    async def _ask(self, asked: Sequence[Publication], since: float) -> None:
        sessions: dict[tuple[str, int], list[tuple[int, Publication]]] = {}
        nameless: list[Publication] = []
        for publication in asked:
            session_id, shard_id, sequence = _identity(publication)
            if sequence < 0:
                nameless.append(publication)
            else:
                sessions.setdefault((session_id, shard_id), []).append((sequence, publication))
        answers = await asyncio.gather(
            *(
                self._stored.sequences(
                    session_id, shard_id, after=min(sequence for sequence, _ in each) - 1, since=since
                )
                for (session_id, shard_id), each in sessions.items()
            ),
            return_exceptions=True,
        )
        held = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            held.append(answer)
        found = 0
        for each, stored in zip(sessions.values(), held, strict=True):
            for sequence, publication in each:
                if sequence in stored:
                    found += 1
                    self._judged.found(publication)
                else:
                    self._judged.missing(publication)
        for publication in nameless:
            self._judged.missing(publication)
        _log.info("late_resends_judged", publications=len(asked), stored=found)


def _identity(publication: Publication) -> tuple[str, int, int]:
    """Session, shard and sequence of the message id; the sequence is -1 when it tells none."""
    session, _, sequence = own_id(publication.message_id).rpartition(":")
    session_id, _, shard = session.rpartition(":")
    if not (session_id and shard.isdigit() and sequence.isdigit()):
        return "", 0, -1
    return session_id, int(shard), int(sequence)
