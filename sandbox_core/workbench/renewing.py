"""Events as if they happened now: new ids of messages and interactions, and new times; see `Renewal`.

The order of ids stays, and so does what refers to what. Ids of servers, channels, roles and people stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum, auto

from .places import Place, changed, places
from .seen import SeenEvent

_DISCORDS_BEGIN = 1_420_070_400_000
"""Milliseconds from the epoch to the first snowflake."""
_TIME_BITS = 22
_MOST = 2**63
_LONGEST_NUMBER = 20
_MILLISECONDS_FROM = 100_000_000_000

_IDS_OF_MESSAGES = frozenset(
    {"message_id", "last_message_id", "original_response_message_id", "interacted_message_id"}
)
_MESSAGES = frozenset({"message", "referenced_message", "target_message"})
_EVENTS_OF_ONE = frozenset({"MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE"})
_INTERACTIONS = frozenset({"interaction", "interaction_metadata", "triggering_interaction_metadata"})
_TIMES = frozenset({"timestamp", "edited_timestamp", "last_pin_timestamp", "expiry"})


class _Kind(Enum):
    ID = auto()
    PERHAPS = auto()
    """An id of a message where one with it was seen elsewhere."""
    TIME = auto()


class Renewal:
    """What the old ids and times of these events become."""

    def __init__(self, events: Sequence[SeenEvent], moment: Callable[[float], float]) -> None:
        """`moment` returns what an old time becomes, in seconds of the epoch; it must keep the order."""
        self._moment = moment
        found = {int(each) for event in events for each in _ids(event)}
        self._new: dict[str, str] = {}
        last = 0
        for old in sorted(found):
            last = max(self._snowflake(old), last + 1)
            self._new[str(old)] = str(last)

    def change(self, event: SeenEvent) -> Callable[[Place], str | None]:
        """Return what changes the places of this event's frame."""

        def new(place: Place) -> str | None:
            kind = _kind(event.type, place)
            if kind is _Kind.TIME:
                return self._time(place)
            return None if kind is None else self._new.get(place.text)

        return new

    def _snowflake(self, old: int) -> int:
        then = ((old >> _TIME_BITS) + _DISCORDS_BEGIN) / 1000
        milliseconds = max(0, round(self._moment(then) * 1000) - _DISCORDS_BEGIN)
        return milliseconds << _TIME_BITS | old & (1 << _TIME_BITS) - 1

    def _time(self, place: Place) -> str | None:
        text = place.text
        if not place.quoted:
            if not _is_number(text):
                return None
            many = 1000 if int(text) >= _MILLISECONDS_FROM else 1
            return str(round(self._moment(int(text) / many) * many))
        try:
            old = datetime.fromisoformat(text)
            old = old if old.tzinfo else old.replace(tzinfo=UTC)
            new = datetime.fromtimestamp(self._moment(old.timestamp()), old.tzinfo)
        except (ValueError, OverflowError, OSError):
            return None
        written = new.isoformat(timespec="microseconds" if "." in text else "seconds")
        return written.replace("+00:00", "Z") if text.endswith("Z") else written


def renewed(event: SeenEvent, changes: Sequence[Callable[[Place], str | None]]) -> bytes:
    """Return the event's frame with the first change that each place has."""
    if not changes:
        return event.frame
    return changed(event.frame, lambda place: next(filter(None, (each(place) for each in changes)), None))


def _ids(event: SeenEvent) -> Iterable[str]:
    for place in places(event.frame):
        text = place.text
        if _kind(event.type, place) is _Kind.ID and _is_number(text) and int(text) < _MOST:
            yield text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER


def _kind(event_type: str, place: Place) -> _Kind | None:
    path = place.path
    if not path or path[0] != "d":
        return None
    if place.is_key:
        return _Kind.ID if path[-1] == "messages" else None
    key = path[-1]
    if key in _TIMES:
        return _Kind.TIME
    if not place.quoted:
        return None
    if key == "id":
        return _Kind.ID if _is_renewed(event_type, path) else None
    if key in _IDS_OF_MESSAGES or key == "interaction_id":
        return _Kind.ID
    if key == "ids" and event_type == "MESSAGE_DELETE_BULK":
        return _Kind.ID
    return _Kind.PERHAPS if key == "target_id" else None


def _is_renewed(event_type: str, path: tuple[str, ...]) -> bool:
    if len(path) == 2:
        return event_type in _EVENTS_OF_ONE or event_type == "INTERACTION_CREATE"
    # An interaction's `resolved` has its messages by their ids.
    return path[-2] in _MESSAGES or path[-2] in _INTERACTIONS or path[-3] == "messages"
