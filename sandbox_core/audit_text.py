"""Writes an audit entry's details as text, the same for Discord and the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)\Z")


def details_line(details: Mapping[str, Any]) -> str:
    """Return `running -> expired, reason=…`: the change first, the rest sorted by name, times in UTC."""
    rest = dict(details)
    words = []
    if "from" in rest and "to" in rest:
        words.append(f"{_value(rest.pop('from'))} -> {_value(rest.pop('to'))}")
    words += [f"{key}={_value(value)}" for key, value in sorted(rest.items())]
    return ", ".join(words)


def _value(value: object) -> str:
    if not isinstance(value, str):
        if isinstance(value, Mapping):
            return json.dumps({str(key): _value(each) for key, each in value.items()}, ensure_ascii=False)
        return json.dumps(value, ensure_ascii=False)
    if _MOMENT.match(value):
        return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return value
