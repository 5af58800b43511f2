"""Turns text from outside into valid values, or raises `InvalidInput` with the problem."""

from __future__ import annotations

import re
import secrets
import unicodedata
from datetime import timedelta

import pytimeparse2

from .errors import InvalidInput
from .subjects import is_guild_id

NAME_MIN, NAME_MAX = 3, 63
MIN_TTL = timedelta(minutes=1)

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])\Z")
_NAME_EXAMPLE = "`welcome-flow-2`"
_TTL_EXAMPLE = "`90m`, `24h`, `3d` or `24` (hours)"
_GUILD_EXAMPLE = "`613425648685547541`"
_BARE_NUMBER = re.compile(r"\d+(?:\.\d+)?\Z", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*[a-z]+[\s,]*)+\Z", re.ASCII)
_SUFFIX_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_SUFFIX_LENGTH = 6


def parse_name(text: str) -> str:
    """Parse a sandbox name: 3 to 63 of a-z, 0-9 and -, starting and ending with a letter or digit.

    It never changes a name: upper case is refused, and the error offers the lower-case form.
    """
    if NAME_MIN <= len(text) <= NAME_MAX and _NAME.match(text):
        return text
    raise InvalidInput("name", text, *_name_problem(text))


def _name_problem(text: str) -> tuple[str, str]:
    if not text:
        return "it is empty", _NAME_EXAMPLE
    if len(text) > NAME_MAX:
        return f"it has {len(text)} characters, and {NAME_MAX} is the most", _NAME_EXAMPLE
    lowered = text.lower()
    if lowered != text and NAME_MIN <= len(lowered) <= NAME_MAX and _NAME.match(lowered):
        return "names are lower case", f"`{lowered}`"
    if not all(ch in _SUFFIX_ALPHABET or ch == "-" for ch in text):
        return "only a-z, 0-9 and - are allowed", _NAME_EXAMPLE
    if len(text) < NAME_MIN:
        return f"it needs at least {NAME_MIN} characters", _NAME_EXAMPLE
    return "it must start and end with a letter or digit", _NAME_EXAMPLE


def generate_name(owner_name: str) -> str:
    """Return `sandbox-{owner slug}-{6 random}`, a valid name for any owner."""
    ascii_name = unicodedata.normalize("NFKD", owner_name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")
    room = NAME_MAX - len("sandbox-") - _SUFFIX_LENGTH - 1
    slug = slug[:room].strip("-") or "dev"
    suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return f"sandbox-{slug}-{suffix}"


def parse_duration(text: str, *, maximum: timedelta, field: str = "TTL", capped: bool = False) -> timedelta:
    """Parse a duration from 1 minute to `maximum`; a number without a unit is hours.

    A longer duration is refused, or shortened to the maximum with `capped`.
    """
    cleaned = text.strip().lower()
    seconds = _seconds(cleaned)
    if seconds is None:
        raise InvalidInput(field, text, "it is not a duration", _TTL_EXAMPLE)
    if seconds > maximum.total_seconds():
        if capped:
            return maximum
        hours = maximum.total_seconds() / 3600
        raise InvalidInput(field, text, f"the most is {hours:g} hours", _TTL_EXAMPLE)
    if seconds < MIN_TTL.total_seconds():
        raise InvalidInput(field, text, "the least is 1 minute", _TTL_EXAMPLE)
    return timedelta(seconds=seconds)


def _seconds(cleaned: str) -> float | None:
    if _BARE_NUMBER.match(cleaned):
        return float(cleaned) * 3600
    # The library also reads signs, clock times and expressions; only the form "2d 4h" is allowed here.
    if not _DURATION.match(cleaned):
        return None
    parsed = pytimeparse2.parse(cleaned)
    if not isinstance(parsed, int | float):
        return None
    return float(parsed)


def parse_guild_id(text: str) -> str:
    """Parse a Discord guild id: 17 to 20 digits without a leading zero, kept as text."""
    cleaned = text.strip()
    if is_guild_id(cleaned):
        return cleaned
    if is_guild_id(cleaned.lstrip("0")):
        raise InvalidInput("server id", text, "a server id has no 0 in front", f"`{cleaned.lstrip('0')}`")
    raise InvalidInput("server id", text, "a server id is 17 to 20 digits", _GUILD_EXAMPLE)
