"""One log line when JetStream begins to refuse, and one when it has taken everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import structlog

from .ack_inbox import PubAckError

_log = structlog.get_logger("sandbox.nats")


class RefusalLog:
    """Every guild tries again four times a second: a full disk must not be filled by what tells of it."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        """The publications that were refused and not taken since."""
        self.reason = ""
        """What JetStream said last; "" when nothing is refused."""
        self._counts: Counter[int] = Counter()

    def refused(self, number: int, error: PubAckError) -> None:
        """JetStream refused this publication."""
        if error.err_code not in self._counts:
            _log.warning("publish_refused", code=error.err_code, description=error.description)
        self._counts[error.err_code] += 1
        self.reason = error.description
        self.numbers.add(number)

    def no_more(self, numbers: Iterable[int]) -> None:
        """It has taken these publications, or nobody offers them any more."""
        self.numbers.difference_update(numbers)
        if not self.numbers and self._counts:
            _log.info("publish_refusals_over", refusals=dict(self._counts))
            self._counts.clear()
            self.reason = ""
