"""Reads JSON in the one way that leaves nothing to the next reader's taste."""

from __future__ import annotations

import json
from typing import Any

_DEEPEST = 64


class TooDeepError(ValueError):
    """It is nested too deeply."""


def parse(data: str | bytes) -> Any:
    """Return the value.

    Raises `TooDeepError`, or another `ValueError` for what is no JSON, two fields of one name, and NaN.
    """
    try:
        text = data.decode() if isinstance(data, bytes) else data
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise TooDeepError from None
    if _depth(value) > _DEEPEST:
        raise TooDeepError
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _depth(value: Any) -> int:
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
