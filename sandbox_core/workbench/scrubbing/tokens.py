"""Takes the secrets out of a frame: a recording outlives them, and is shown to others.

Only a secret's own bytes change: the value of a key that names one, wherever it stands, and what has the form
of one inside a text, such as a webhook's URL that somebody has pasted.
"""

from __future__ import annotations

import json
import re

import msgspec

from sandbox_core.strangers import UNREADABLE

HIDDEN = b"not-recorded"
"""Stands for a secret. An interaction's has its id behind it: the gateway tells sandboxes apart by tokens."""

_NAMES = (
    *(b"token", b"secret", b"passw", b"credential", b"authorization", b"session_id"),
    *(b"resume_url", b"resume_gateway_url", b"api_key", b"apikey", b"private_key", b"privatekey"),
)
"""What a secret's key has in it. Most frames have none, which is seen at once."""
# Possessive throughout: what people write must not make a search slow.
_INSIDE = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_STRING = rb'"' + _INSIDE + rb'"'
_KEY = re.compile(rb'(?<!\\)"(' + _INSIDE + rb')"\s*+:\s*+', re.DOTALL)
_VALUE = re.compile(_STRING + rb"|NaN|-?Infinity|[-0-9.eE+]++", re.DOTALL)
_STEP = re.compile(_STRING + rb"|[][{}]", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:u00([2-7][0-9a-fA-F])|.)", re.DOTALL)
_ESCAPED_LETTER = re.compile(rb"\\u00[2-7]")
_SLASH = rb"(?:\\?/)"
# What a webhook's, an interaction's and a callback's URL have behind the id.
_IN_URL = re.compile(
    rb"((?:webhooks|interactions)" + _SLASH + rb"[0-9]{1,20}" + _SLASH + rb")[A-Za-z0-9_.-]{16,}+",
    re.IGNORECASE,
)
# A parameter of any URL.
_PARAMETER = re.compile(rb"((?:token|secret|password|api_?key)=)[^&\"\\\s<>)]{8,}+", re.IGNORECASE)
# A bot's own token, a sandbox's, and a person's with a second factor.
_TOKEN = re.compile(
    rb"()(?<![A-Za-z0-9_-])"
    rb"(?:[A-Za-z0-9_-]{20,}+\.[A-Za-z0-9_-]{4,}+\.[A-Za-z0-9_-]{25,}+|mfa\.[A-Za-z0-9_-]{20,}+)",
    re.IGNORECASE,
)
_END_OF_TOKEN = re.compile(rb"\.[A-Za-z0-9_-]{20}")


def without_tokens(frame: bytes, event_type: str) -> bytes:
    """Return the frame with something else for each secret, and everything else byte for byte as it is.

    What is no JSON could hide anything: it becomes an event of this type with an empty `d`.
    """
    read = _read(frame)
    if not isinstance(read, dict):
        return json.dumps({"t": event_type, "s": 1, "op": 0, "d": {}}, separators=(",", ":")).encode()
    plain = _ESCAPE.sub(_unescaped, frame) if _ESCAPED_LETTER.search(frame) else frame
    hidden = plain
    lowered = plain.lower()
    if _has_name(lowered):
        hidden = _hide_values(hidden, HIDDEN + _suffix(event_type, read.get("d")))
    if b"webhooks" in lowered or b"interactions" in lowered:
        hidden = _IN_URL.sub(_kept, hidden)
    if b"=" in plain:
        hidden = _PARAMETER.sub(_kept, hidden)
    if _END_OF_TOKEN.search(plain):
        hidden = _TOKEN.sub(_kept, hidden)
    # Escapes of letters mean the same; they go only where they could have hidden something.
    return frame if hidden == plain else hidden


def _read(frame: bytes) -> object:
    try:
        found: object = msgspec.json.decode(frame)
    except UNREADABLE:
        # As lenient as the gateway, which takes strings that are no UTF-8.
        try:
            found = json.loads(frame.decode(errors="replace"))
        except (ValueError, RecursionError):
            return None
    return found


def _suffix(event_type: str, data: object) -> bytes:
    own = data.get("id") if event_type == "INTERACTION_CREATE" and isinstance(data, dict) else None
    is_id = isinstance(own, str) and own.isascii() and own.isdigit()
    return f"-{own}".encode() if is_id else b""


def _hide_values(frame: bytes, hidden: bytes) -> bytes:
    parts, done = [], 0
    # In JSON each quote without a backslash before it begins or ends a string, so a key is never missed.
    for key in _KEY.finditer(frame):
        if key.start() < done or not _has_name(key[1].lower()):
            continue
        begin = key.end()
        opening = frame[begin : begin + 1]
        if opening in {b"{", b"["}:
            end, instead = _end(frame, begin), b"{}" if opening == b"{" else b"[]"
        elif (value := _VALUE.match(frame, begin)) is not None:
            end, instead = value.end(), b'"%s"' % hidden if opening == b'"' else b"0"
        else:
            # true, false or null
            continue
        parts += [frame[done:begin], instead]
        done = end
    return b"".join((*parts, frame[done:]))


def _end(frame: bytes, begin: int) -> int:
    depth = 0
    for step in _STEP.finditer(frame, begin):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(step[0], 0)
        if depth == 0:
            return step.end()
    return len(frame)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    """Write a letter that is written as a number, which only hides it; a quote and a backslash need it."""
    if escape[1] is None or (letter := bytes.fromhex(escape[1].decode())) in {b'"', b"\\", b"\x7f"}:
        return escape[0]
    return letter


def _has_name(lowered: bytes) -> bool:
    return any(name in lowered for name in _NAMES)


def _kept(found: re.Match[bytes]) -> bytes:
    before: bytes = found[1]
    return before + HIDDEN
