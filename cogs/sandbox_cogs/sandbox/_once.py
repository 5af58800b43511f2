"""Things that are done for the first of several clicks only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

_REMEMBERED = 1000


class Once:
    """Remembers what was done, the newest thousand.

    Clicks that reach two processes, or one before and one after a restart, meet in the manager: a
    registration and a destruction are done once there, however often they are asked for.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[Hashable, None] = OrderedDict()

    def first(self, key: Hashable) -> bool:
        """True the first time."""
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True

    def forget(self, key: Hashable) -> None:
        """It was not done after all: the next click is the first."""
        self._seen.pop(key, None)
