"""What is common to reading input that anybody may have written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What msgspec raises: the second for a string that is no UTF-8, the third for what is nested too deep."""

_EVERY = 60.0


class Seldom:
    """A warning that is logged once a minute at most: a flood of input must not become one of log lines."""

    def __init__(self, log: Any, event: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` is in seconds."""
        self._log = log
        self._event = event
        self._monotonic = monotonic
        self._said_at: float | None = None
        self._unsaid = 0

    def say(self, **facts: object) -> None:
        """Log it, with the number of times since the last line."""
        now = self._monotonic()
        self._unsaid += 1
        if self._said_at is None or now - self._said_at >= _EVERY:
            self._log.warning(self._event, count=self._unsaid, **facts)
            self._said_at, self._unsaid = now, 0
