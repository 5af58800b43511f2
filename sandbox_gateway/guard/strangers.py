"""Calls to production's own path without its token, such as a webhook's: anybody may send them.

Discord counts what it refuses of them against this address, which is production's and the sandboxes', too. So
those that it does not know end here, long before its limit. Each process counts by itself: production waits
for no server of ours.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

_WITHIN = 600.0
_MOST, _MOST_OF_ACCEPTED = 500, 2000
_KEPT = 10_000
_INVALID = frozenset({401, 403, 429})
_ACCEPTED_BELOW = 400


class Strangers:
    """Counts what Discord refuses of them. A call has the token by which Discord knows it."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` is in seconds."""
        self._monotonic = monotonic
        self._refused: deque[float] = deque(maxlen=_MOST_OF_ACCEPTED)
        self._accepted: OrderedDict[str, None] = OrderedDict()

    def too_many(self, token: str) -> bool:
        """Return whether no call with this token may be sent now."""
        since = self._monotonic() - _WITHIN
        while self._refused and self._refused[0] <= since:
            self._refused.popleft()
        most = _MOST_OF_ACCEPTED if token in self._accepted else _MOST
        return len(self._refused) >= most

    def answered(self, token: str, status: int) -> None:
        """Count Discord's answer."""
        if status in _INVALID:
            self._refused.append(self._monotonic())
        elif status < _ACCEPTED_BELOW:
            self._accepted[token] = None
            self._accepted.move_to_end(token)
            if len(self._accepted) > _KEPT:
                self._accepted.popitem(last=False)
