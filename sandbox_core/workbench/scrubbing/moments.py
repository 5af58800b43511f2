"""False ids and moments, in the order of the real ones.

What happened while the recording ran, from a day before its beginning on, is shifted as a whole, to a false
beginning: distances in time stay. When somebody joined a server or made an account could tell who it is: what
is older is spread evenly over the years before, and keeps nothing but its order. So does what is far ahead.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta

BEGAN = datetime(2024, 1, 1, 12, tzinfo=UTC)
"""When each scrubbed recording says that it began."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_DISCORD_MS = 1_420_070_400_000
_OLDEST = datetime(2016, 1, 1, tzinfo=UTC)
_AHEAD = 400 * _DAY
_STEP_AHEAD = 3_600 * _SECOND


def microseconds(moment: datetime) -> int:
    """Return the moment in microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(micros: int) -> datetime:
    """Return the moment for so many microseconds since 1970. Raises `OverflowError`."""
    return _EPOCH + timedelta(microseconds=micros)


class Moments:
    """Notes every id and moment of a recording; once it is settled it knows a false one for each."""

    def __init__(self, began: datetime) -> None:
        """`began` is when the recording began."""
        self._began = microseconds(began)
        # Whole seconds: some moments are told in seconds, and must stay the same as those that are not.
        self._shift = microseconds(BEGAN) - self._began // _SECOND * _SECOND
        self._ids: set[int] = set()
        self._noted: set[int] = set()
        self._false_ids: dict[int, int] = {}
        self._old: list[int] = []
        self._far: list[int] = []
        self._step = _SECOND

    def note_id(self, snowflake: int) -> None:
        """Say that this id is in the recording."""
        self._ids.add(snowflake)

    def note(self, micros: int) -> None:
        """Say that this moment is in the recording."""
        self._noted.add(micros)

    def settle(self) -> None:
        """Decide on the false ones, once all are noted."""
        noted = self._noted | {_made(each) for each in self._ids}
        self._old = sorted(each for each in noted if each < self._began - _DAY)
        self._far = sorted(each for each in noted if each > self._began + _AHEAD)
        room = microseconds(BEGAN) - 2 * _DAY - microseconds(_OLDEST)
        self._step = max(1, room // _SECOND // (len(self._old) + 1)) * _SECOND
        last = 0
        for real in sorted(self._ids):
            first = (self.false(_made(real)) // 1000 - _DISCORD_MS) << 22
            last = self._false_ids[real] = max(first, last + 1)

    def false(self, micros: int) -> int:
        """Return the false moment for one that was noted."""
        if micros < self._began - _DAY:
            return microseconds(_OLDEST) + (bisect_left(self._old, micros) + 1) * self._step
        if micros > self._began + _AHEAD:
            steps = bisect_left(self._far, micros) + 1
            return microseconds(BEGAN) + _AHEAD + _DAY + steps * _STEP_AHEAD
        return micros + self._shift

    def false_id(self, snowflake: int) -> int:
        """Return the false id for one that was noted."""
        return self._false_ids[snowflake]


def _made(snowflake: int) -> int:
    return ((snowflake >> 22) + _DISCORD_MS) * 1000
