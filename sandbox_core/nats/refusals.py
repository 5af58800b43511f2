"""One log line when JetStream begins to refuse, and one when it has taken everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import structlog

from .ack_inbox import PubAckError

_log = structlog.get_logger("sandbox.nats")

_QUIET_LOOKS = 20


class RefusalLog:
    """Every guild tries again four times a second: a full disk must not be filled by what tells of it."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        """The publications that were refused and not taken since."""
        self.reason = ""
        """What JetStream said last; "" when nothing is refused."""
        self._counts: Counter[int] = Counter()
        self._quiet_looks = 0

    def refused(self, number: int, error: PubAckError) -> None:
        """JetStream refused this publication."""
        if error.err_code not in self._counts:
            _log.warning("publish_refused", code=error.err_code, description=error.description)
        self._counts[error.err_code] += 1
        self.reason = error.description
        self.numbers.add(number)
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
        if self.numbers or not self.reason:
            self._quiet_looks = 0
            return
        self._quiet_looks += 1
        if self._quiet_looks >= _QUIET_LOOKS:
            self._over()

    def _over(self) -> None:
        if self._counts:
            _log.info("publish_refusals_over", refusals=dict(self._counts))
            self._counts.clear()
            self.reason = ""
            self._quiet_looks = 0
