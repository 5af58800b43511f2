"""Finds the values in a frame's bytes, so that single ones can be changed and all other bytes stay."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


class Place(NamedTuple):
    """A text, a number or an object's key in a frame."""

    path: tuple[str, ...]
    """The keys that lead there; a list's elements have the list's own."""
    is_key: bool
    """True for a key of the object at `path`."""
    text: str
    """A text without its quotes, as it is written in the frame."""
    quoted: bool
    begin: int
    end: int


Change = Callable[[Place], str | None]
"""Returns what is to stand at a place, without quotes, or None to leave it."""


def places(frame: bytes) -> Iterator[Place]:
    """Yield the places in their order. What is no JSON yields something, and never raises."""
    path: list[str] = []
    # For each open object or list: whether it is an object, and how long the path to it is.
    inside: list[tuple[bool, int]] = []
    awaits_key = False
    for match in _TOKEN.finditer(frame):
        token = match.group()
        first = token[:1]
        if first in b"{[":
            inside.append((first == b"{", len(path)))
            awaits_key = first == b"{"
        elif first in b"}]":
            if inside:
                inside.pop()
            awaits_key = False
        elif first == b",":
            if inside:
                is_object, depth = inside[-1]
                del path[depth:]
                awaits_key = is_object
        elif first != b":":
            quoted = first == b'"'
            text = (token[1:-1] if quoted else token).decode(errors="replace")
            yield Place(tuple(path), awaits_key, text, quoted, match.start(), match.end())
            if awaits_key:
                path.append(text)
                awaits_key = False
            continue
        if first in b"}]" and inside:
            del path[inside[-1][1] + inside[-1][0] :]


def changed(frame: bytes, change: Change) -> bytes:
    """Return the frame with other texts at some places; the same object when there are none."""
    parts: list[bytes] = []
    at = 0
    for place in places(frame):
        new = change(place)
        if new is not None and new != place.text:
            parts += [frame[at : place.begin], f'"{new}"'.encode() if place.quoted else new.encode()]
            at = place.end
    return b"".join([*parts, frame[at:]]) if parts else frame
