"""Makes sure that only the first of several clicks counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

_REMEMBERED = 1000


class Once:
    """Remembers the newest thousand keys.

    Clicks in two processes, or before and after a restart, are both passed to the manager. It does a
    registration and a destruction only once.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[Hashable, None] = OrderedDict()

    def first(self, key: Hashable) -> bool:
        """Return True the first time."""
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True

    def forget(self, key: Hashable) -> None:
        """Forget a key whose action was not done: the next click counts as the first."""
        self._seen.pop(key, None)
