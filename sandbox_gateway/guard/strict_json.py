"""Reads JSON in the one way that leaves nothing to the next reader's taste."""

from __future__ import annotations

import json
from typing import Any

from .answers import invalid_body
from .ids import JsonValue

_DEEPEST = 64
_MOST_VALUES = 200_000
"""What Discord takes has far fewer. Sixteen megabytes of them would keep the process busy for seconds."""


def parse(data: bytes) -> JsonValue:
    """Return the value. Raises `Refusal` for two fields of one name, NaN, deep nesting, too many values."""
    if sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise invalid_body("it has too many values", "json")
    try:
        text = data.decode()
        value: JsonValue = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise invalid_body("it is no JSON with each name once", "json") from error
    if _depth(value) > _DEEPEST:
        raise invalid_body("it is nested too deeply", "json")
    return value


def write(value: JsonValue) -> bytes:
    """Return the value as JSON in ASCII; what was read and checked is what is sent."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError as error:
        raise invalid_body("a number is too large", "json") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _depth(value: JsonValue) -> int:
    depth, level = 0, [value]
    while level and depth <= _DEEPEST:
        depth += 1
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth
