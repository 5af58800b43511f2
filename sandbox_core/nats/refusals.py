"""What JetStream does not take: one log line when that begins, and one when it has taken everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from .ack_inbox import PubAckError
from .errors import meaning
from .publication import Publication

_log = structlog.get_logger("sandbox.nats")

_QUIET_LOOKS = 20
_NO_ANSWER = 0
"""Stands for a code of JetStream's, which begin at 10000."""


class RefusalLog:
    """Every guild tries again four times a second: a full disk must not be filled by what tells of it.

    A nats-server whose disk is full does not even refuse: it does not answer, and after the disk has room
    again it goes on so until it is restarted. `stream_of` names the stream of a
    subject, `server` tells the server's place.
    """

    def __init__(self, stream_of: Callable[[str], str], server: Callable[[], str]) -> None:
        self.numbers: set[int] = set()
        """The publications that are still to be taken."""
        self.trouble = ""
        """What JetStream says, or does not, and of which stream; "" when it takes everything."""
        self._stream_of = stream_of
        self._server = server
        self._told: set[str] = set()
        self._counts: Counter[int] = Counter()
        self._quiet_looks = 0

    def refused(self, publication: Publication, error: PubAckError) -> None:
        """JetStream refused this publication."""
        said = meaning(error.err_code, error.description)
        self._note("publish_refused", publication, error.err_code, f"takes no events: {said}")

    def unanswered(self, publication: Publication, seconds: float) -> None:
        """JetStream did not answer for so long."""
        self._note(
            "publish_unanswered",
            publication,
            _NO_ANSWER,
            f"stores no events: no answer within {seconds:g} s; its disk may be full",
        )

    def _note(self, event: str, publication: Publication, code: int, problem: str) -> None:
        self.trouble = f"the stream {self._stream_of(publication.subject)} {problem}"
        if self.trouble not in self._told:
            self._told.add(self.trouble)
            codes = {} if code == _NO_ANSWER else {"code": code}
            _log.warning(event, dependency="NATS", server=self._server(), reason=self.trouble, **codes)
        self._counts[code] += 1
        self.numbers.add(publication.number)
        self._quiet_looks = 0

    def no_more(self, numbers: Iterable[int]) -> None:
        """It has taken these publications."""
        self.numbers.difference_update(numbers)
        if not self.numbers:
            self._over()

    def withdrawn(self, number: int) -> None:
        """Nobody offers this publication any more, and perhaps the next one in its place."""
        self.numbers.discard(number)

    def look(self) -> None:
        """To be called twice a second: when nothing was refused for a while, it is over as well."""
        if self.numbers or not self.trouble:
            self._quiet_looks = 0
            return
        self._quiet_looks += 1
        if self._quiet_looks >= _QUIET_LOOKS:
            self._over()

    def _over(self) -> None:
        if self._counts:
            _log.info("publish_refusals_over", refusals=dict(self._counts))
            self._counts.clear()
            self._told.clear()
            self.trouble = ""
            self._quiet_looks = 0
