"""Texts that Discord's commands and the command line both use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> str:
    """Return the text as every store and Discord take it.

    Half a surrogate pair and NUL become U+FFFD: JSON can have both, PostgreSQL neither, and UTF-8 has no half
    of a pair.
    """
    return _NOT_STORABLE.sub(_REPLACEMENT, text)


def storable_json(value: Any) -> Any:
    """Return the JSON value with each text in it, keys included, made storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable_json(key): storable_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [storable_json(each) for each in value]
    return value


def counted(number: int, one: str, several: str) -> str:
    """Return the number with its noun: `1 server`, `2 servers`, `1,200 servers`."""
    return f"{number:,} {one if number == 1 else several}"


def listed(names: Sequence[str]) -> str:
    """Return the names as a sentence has them: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
