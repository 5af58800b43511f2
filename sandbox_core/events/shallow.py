"""JSON without what is nested too deep for a parser that calls itself."""

from __future__ import annotations

import re

DEEPEST = 100
"""How deep an event may be nested and be read as a whole; Discord's are not a fifth of that."""

_BRACKET_OR_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)
_OPENING = (b"[", b"{")


def shallow(text: bytes) -> bytes:
    """Return the JSON with `null` in the place of each array and object below the deepest level.

    What is no JSON stays none.
    """
    pieces: list[bytes] = []
    depth = kept_until = 0
    for mark in _BRACKET_OR_STRING.finditer(text):
        if mark[0] in _OPENING:
            if depth == DEEPEST:
                pieces += (text[kept_until : mark.start()], b"null")
            depth += 1
        elif mark[0][0] != ord('"'):
            depth -= 1
            if depth == DEEPEST:
                kept_until = mark.end()
    # What is not closed again is no JSON: nothing of its end may make it look whole.
    return b"".join((*pieces, text[kept_until:])) if depth <= DEEPEST else text
