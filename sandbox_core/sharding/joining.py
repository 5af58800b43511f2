"""Which of the events kept while standing by are stored, from another session, already; pure.

Two sessions of one shard get the same events under different ids and numbers, so their copies are found by
what they say. A publisher stores a guild's events one after the other: what it stored of a guild is followed
by what it did not. So for each guild the last event stored is looked for among those kept, and everything
behind it is not stored. Where the same event was kept several times, word for word, the place counts whose
neighbours are stored too, and then the one nearest in time.

Events without a guild have no such order, as it may take a while to find out whose one is. Each of them is
looked for by itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from sandbox_core.strangers import UNREADABLE

_MOST_NEIGHBOURS = 32
_MESSAGES = frozenset({"MESSAGE_CREATE", "MESSAGE_UPDATE"})


@dataclass(frozen=True, slots=True)
class Kept:
    """An event that was kept. `at` is when it was received, in seconds since the epoch."""

    key: bytes
    lane: str
    """The guild's id; "" without one."""
    at: float
    is_settled: bool = False
    """The publisher says that it had stored everything that happened before: this is not looked for."""


@dataclass(frozen=True, slots=True)
class Copy:
    """An event as a stream has it. `at` is when it was stored, in seconds since the epoch."""

    key: bytes
    at: float


class _Envelope(msgspec.Struct):
    t: str | None = None
    d: msgspec.Raw = msgspec.Raw(b"null")


class _Message(msgspec.Struct):
    id: str | None = None
    edited_timestamp: str | None = None


_envelope = msgspec.json.Decoder(_Envelope).decode
_message = msgspec.json.Decoder(_Message).decode


def key_of(frame: bytes) -> bytes:
    """What is the same in every session's copy of an event, and in no other event.

    The sequence number is the session's. A message is told by its id and its edit: what is in it depends on
    the session's intents.
    """
    try:
        envelope = _envelope(frame)
        event, data = envelope.t or "", bytes(envelope.d)
        if event in _MESSAGES and (message := _message(data)).id is not None:
            data = f"{message.id} {message.edited_timestamp}".encode()
    except UNREADABLE:
        # Some strings that Discord sends are no UTF-8 for msgspec.
        event, data = "", _without_sequence(frame)
    return hashlib.blake2b(data, digest_size=16, person=event.encode(errors="replace")[:16]).digest()


def _without_sequence(frame: bytes) -> bytes:
    begin = frame.find(b'"s":')
    if begin < 0:
        return frame
    end = begin + 4
    while end < len(frame) and frame[end : end + 1].isdigit():
        end += 1
    return frame[:begin] + frame[end:]


def stored_places(kept: Sequence[Kept], stored: Mapping[str, Sequence[Copy]]) -> set[int]:
    """The places in `kept` of those that are stored; `stored` has the copies of each lane."""
    lanes: defaultdict[str, list[int]] = defaultdict(list)
    for place, event in enumerate(kept):
        lanes[event.lane].append(place)
    found: set[int] = set()
    for lane, places in lanes.items():
        copies = sorted(stored.get(lane, ()), key=lambda copy: copy.at)
        events = [kept[place] for place in places]
        if lane:
            number = _stored_of_guild(events, copies)
            found.update(places[:number])
        else:
            left = Counter(copy.key for copy in copies)
            for place, event in zip(places, events, strict=True):
                if left[event.key] > 0:
                    left[event.key] -= 1
                    found.add(place)
        found.update(place for place in places if kept[place].is_settled)
    return found


def _stored_of_guild(events: Sequence[Kept], copies: Sequence[Copy]) -> int:
    """How many of the guild's events are stored: the first ones."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        places[event.key].append(place)
    # The last one stored may be of a type that this process's session does not get.
    for last in range(len(copies) - 1, -1, -1):
        candidates = places.get(copies[last].key)
        if candidates:
            best = max(candidates, key=lambda place: _likeness(events, place, copies, last))
            return best + 1
    return 0


def _likeness(events: Sequence[Kept], place: int, copies: Sequence[Copy], last: int) -> tuple[int, float]:
    """How well the events before `place` fit the copies before `last`, and how near in time they are."""
    depth = min(place, last, _MOST_NEIGHBOURS)
    same = 0
    while same < depth and events[place - same - 1].key == copies[last - same - 1].key:
        same += 1
    # To its end, however soon it comes, is as good as any length.
    return (_MOST_NEIGHBOURS if same == depth else same, -abs(events[place].at - copies[last].at))
