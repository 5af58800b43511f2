"""Reads and writes the JSON of calls; what can't be read in one way only is refused."""

from __future__ import annotations

import json

from sandbox_core import strict_json

from .answers import invalid_body
from .ids import JsonValue

_MOST_VALUES = 200_000
"""What Discord takes has far fewer. Sixteen megabytes of them would keep the process busy for seconds."""


def parse(data: bytes) -> JsonValue:
    """Return the value. Raises `Refusal` for two fields of one name, NaN, deep nesting, too many values."""
    if sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise invalid_body("it has too many values", "json")
    try:
        value: JsonValue = strict_json.parse(data)
    except strict_json.TooDeepError as error:
        raise invalid_body("it is nested too deeply", "json") from error
    except ValueError as error:
        raise invalid_body("it is no JSON with each name once", "json") from error
    return value


def write(value: JsonValue) -> bytes:
    """Return the value as JSON in ASCII; what was read and checked is what is sent."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError as error:
        raise invalid_body("a number is too large", "json") from error
