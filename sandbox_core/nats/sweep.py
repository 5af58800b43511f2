"""Publications without an answer are sent again, or given up when the patience has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from .connection import NatsConnection
from .gate import Gate
from .patience import Patience
from .publication import Publication, PublisherEvents
from .refusals import RefusalLog

_INTERVAL = 0.5


class Sends(Protocol):
    """The publisher, as far as its sweep needs it."""

    @property
    def awaited(self) -> Mapping[int, Publication]: ...

    @property
    def events(self) -> PublisherEvents: ...

    def queue(self, publication: Publication) -> None: ...

    def withdraw(self, publication: Publication) -> None: ...


class Sweep:
    """Looks twice a second. `ack_timeout` is in seconds; `now` is the clock of the publications' times."""

    def __init__(
        self,
        connection: NatsConnection,
        publisher: Sends,
        gate: Gate,
        refusals: RefusalLog,
        patience: Patience | None,
        *,
        ack_timeout: float,
        now: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._gate = gate
        self._refusals = refusals
        self._patience = patience
        self._ack_timeout = ack_timeout
        self._now = now

    async def run(self) -> None:
        """Look again and again; ends only by cancellation."""
        while True:
            await asyncio.sleep(_INTERVAL)
            self.resend_overdue()
            if self._patience is not None and self._publisher.awaited:
                if await self._patience.answers():
                    self.give_up()
                else:
                    self._patience.begin_anew()
            self._refusals.look()

    def resend_overdue(self) -> int:
        """Queue again what was sent longer than the ack timeout ago; returns how many."""
        if not self._gate.is_open:
            return 0
        oldest = self._now() - self._ack_timeout
        overdue = [p for p in self._publisher.awaited.values() if 0.0 < p.sent_at < oldest]
        for publication in overdue:
            publication.sent_at = 0.0
            self._publisher.events.attempt_failed("ack_timeout")
            self._refusals.unanswered(publication, self._ack_timeout)
            self._publisher.queue(publication)
        return len(overdue)

    def give_up(self) -> None:
        """Give up those publications with which the patience has ended."""
        if self._patience is None:
            return
        ended = self._patience.ended(
            list(self._publisher.awaited.values()),
            self._now(),
            is_open=self._gate.is_open,
            is_away=not self._connection.connected,
        )
        for publication, reason, before in ended:
            # What another one's end led to may have ended this one.
            if publication.number in self._publisher.awaited:
                self._publisher.withdraw(publication)
                self._publisher.events.given_up(publication, reason, before)
            if reason == "no_ack":
                # Perhaps the stream is one that never answers: look at it again.
                self._gate.shut()
                self._gate.recover()
