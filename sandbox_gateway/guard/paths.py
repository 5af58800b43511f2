"""Reads the target of a request as it came, without decoding anything.

A path that is decoded and sent on may mean another place to the next reader (`..%2f`). So a path is split
where its bytes have a slash, each part has to match a pattern of few characters, and what is sent to Discord
is put together from the matched parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .answers import unknown_route

_LONGEST = 4096
_TARGET = re.compile(r"/api(?:/v(9|10))?((?:/[^/?#]+)+)(?:\?([^#]*))?\Z")
_PRINTABLE = re.compile(r"[!-~]+\Z")
_NEWEST = 10

_SNOWFLAKE = r"[1-9][0-9]{16,19}"
_SHORT_ID = r"[1-9][0-9]{0,19}"
_TOKEN = r"[A-Za-z0-9_=-]{1,512}"  # noqa: S105 (the pattern of one)
# Of escapes only bytes beyond ASCII, and `:`, `#`, `*`, as in custom emojis and keycaps: no slash, no dot.
_EMOJI = r"(?:[A-Za-z0-9_~:!'()*-]|%(?:[89A-Fa-f][0-9A-Fa-f]|3[Aa]|23|2[Aa])){1,300}"
_CODE = r"[A-Za-z0-9-]{1,100}"
_INSTANCE = rf"i-{_SNOWFLAKE}-gc-{_SNOWFLAKE}-{_SNOWFLAKE}"

_SHAPES = {
    "answer_id": _SHORT_ID,
    "sound_id": _SHORT_ID,
    "emoji_name": _EMOJI,
    "code": _CODE,
    "webhook_token": _TOKEN,
    "interaction_token": _TOKEN,
    "instance_id": _INSTANCE,
}
_IDS = re.compile(r"[a-z_]+_id(?:_[12])?\Z")
_LARGEST_ID = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Target:
    """A request's target: the version of the API, the parts of the path, and the query, all as they came."""

    version: int
    segments: tuple[str, ...]
    query: str


def split(raw: str) -> Target:
    """Return the parts of a target such as `/api/v10/channels/1/messages?limit=5`.

    Raises `Refusal` for everything else: other versions, whole addresses, empty parts, odd characters.
    """
    if len(raw) > _LONGEST or not _PRINTABLE.match(raw):
        raise unknown_route()
    match = _TARGET.match(raw)
    if match is None:
        raise unknown_route()
    version, path, query = match.groups()
    return Target(int(version or _NEWEST), tuple(path[1:].split("/")), query or "")


@dataclass(frozen=True, slots=True)
class Template:
    """A path of the table, such as `/channels/{channel_id}/messages`."""

    text: str
    parts: tuple[str | tuple[str, re.Pattern[str]], ...]
    """Each a literal, or a parameter's name with the pattern of its values."""

    @classmethod
    def of(cls, text: str) -> Template:
        """Read a template. Raises `ValueError` for a parameter whose values are not known."""
        return cls(text, tuple(_part(part) for part in text[1:].split("/")))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return tuple(part[0] for part in self.parts if not isinstance(part, str))

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return the parameters' values if these are the segments of such a path."""
        if len(segments) != len(self.parts):
            return None
        found: dict[str, str] = {}
        for part, segment in zip(self.parts, segments, strict=True):
            if isinstance(part, str):
                if part != segment:
                    return None
            elif part[1].match(segment) and _is_sound(part[0], segment):
                found[part[0]] = segment
            else:
                return None
        return found

    def path(self, values: dict[str, str]) -> str:
        """Return the path with these values of the parameters."""
        return "".join(f"/{part if isinstance(part, str) else values[part[0]]}" for part in self.parts)


def _part(part: str) -> str | tuple[str, re.Pattern[str]]:
    if not part.startswith("{"):
        return part
    name = part[1:-1]
    shape = _SHAPES.get(name, _SNOWFLAKE if _IDS.match(name) else None)
    if shape is None:
        raise ValueError(f"nothing says what a value of {part} looks like")
    return name, re.compile(rf"{shape}\Z")


def _is_sound(name: str, segment: str) -> bool:
    if name == "emoji_name":
        return _is_text(segment)
    return not segment.isdigit() or int(segment) <= _LARGEST_ID


def _is_text(segment: str) -> bool:
    try:
        bytes(_bytes_of(segment)).decode()
    except UnicodeDecodeError:
        return False
    return True


def _bytes_of(segment: str) -> Iterator[int]:
    position = 0
    while position < len(segment):
        if segment[position] == "%":
            yield int(segment[position + 1 : position + 3], 16)
            position += 3
        else:
            yield ord(segment[position])
            position += 1


def is_snowflake(text: str) -> bool:
    """Return whether this is an id in its only spelling: 17 to 20 digits, no zero before them."""
    return re.fullmatch(_SNOWFLAKE, text) is not None and int(text) <= _LARGEST_ID


def instance_place(instance_id: str) -> tuple[str, str]:
    """Return the guild and the channel in an activity instance's id, which has matched."""
    _, _, guild_id, channel_id = instance_id.removeprefix("i-").split("-")
    return guild_id, channel_id
