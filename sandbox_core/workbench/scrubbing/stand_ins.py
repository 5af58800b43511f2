"""False texts and numbers: the same one for the same real one, throughout a recording."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

from .known import COUNTED, LEAST_ID, key_stays
from .moments import Moments, microseconds, moment_of
from .tokens import HIDDEN

_ID = re.compile(r"[1-9][0-9]{14,19}")
_MOST_ID = 2**64
_DIGITS = re.compile(r"[0-9]+")
_HASH = re.compile(r"(a_)?[0-9a-f]{32}")
_HIDDEN = re.compile(re.escape(HIDDEN.decode()) + r"(?:-([0-9]+))?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_FILE = re.compile(
    r".*(\.(?:png|jpe?g|gif|webp|mp[34]|mov|webm|ogg|wav|txt|log|csv|json|pdf|zip))",
    re.IGNORECASE | re.DOTALL,
)
_SECONDS = range(1_400_000_000, 2_200_000_000)
_MILLISECONDS = range(1_400_000_000_000, 2_200_000_000_000)
_PART = re.compile(
    r"(?P<everybody>@everyone|@here)"
    r"|(?P<url>https?://[^\s<]+)"
    r"|(?P<before><(?:@[!&]?|#))(?P<id>[1-9][0-9]{14,18})>"
    r"|(?P<named><(?:a?:|/))(?P<name>[^:<>]{1,100}):(?P<its>[1-9][0-9]{14,18})>"
    r"|<t:(?P<seconds>[0-9]{10})(?P<style>:[a-zA-Z])?>",
    re.IGNORECASE,
)


class StandIns:
    """What each value is replaced with. `noting` only notes ids and moments, and its answers mean nothing."""

    def __init__(self, moments: Moments, *, noting: bool) -> None:
        self._moments = moments
        self._noting = noting
        self._counted: dict[str, dict[object, int]] = defaultdict(dict)

    def text(self, value: str) -> str:
        """Return the false text; a mention in it mentions the same person, channel or role as before."""
        if not value.strip():
            return value
        if value.isascii():
            whole = self._of_a_form(value)
            if whole is not None:
                return whole
        parts, done, at_url = [], 0, False
        for part in _PART.finditer(value):
            parts += [self._words(value[done : part.start()], apart=at_url), self._part(part)]
            done, at_url = part.end(), part["url"] is not None
        return "".join((*parts, self._words(value[done:], apart=at_url)))

    def file_name(self, value: str) -> str:
        """Return a false file's name of the same kind of file."""
        if (found := _FILE.fullmatch(value)) is None:
            return self.text(value)
        return f"scrubbed_{self._number('file', value)}{found[1].lower()}"

    def key(self, value: str) -> str:
        """Return the false key; one that Discord documents stays."""
        if _is_id(value):
            return self.text(value)
        return value if key_stays(value) else f"scrubbed_key_{self._number('key', value)}"

    def number(self, key: str, value: float) -> float:
        """Return the false number for one that may not stay."""
        if isinstance(value, int) and LEAST_ID <= value < _MOST_ID:
            return self._id(value)
        if key in COUNTED:
            # Too large for what it should be; a false one could not be told from a real one that stays.
            return type(value)(0)
        if not isinstance(value, int):
            return float(self._number("float", value))
        for known, factor in ((_SECONDS, 1_000_000), (_MILLISECONDS, 1000)):
            if value in known:
                return self._moment(value * factor) // factor
        return self._number("int", value)

    def _of_a_form(self, value: str) -> str | None:
        """Return what stands for a text that is nothing but an id, a moment, a number, or a hash."""
        if value == "0":
            return value
        if _is_id(value):
            return str(self._id(int(value)))
        # Before what is only digits, as a false hash is.
        if (found := _HASH.fullmatch(value)) is not None:
            return f"{found[1] or ''}{self._number('hash', value):032x}"
        if _DIGITS.fullmatch(value):
            return str(self._number("digits", value)).zfill(len(value))
        if (found := _MOMENT.fullmatch(value)) is not None:
            return self._written(found)
        if (found := _HIDDEN.fullmatch(value)) is not None:
            return HIDDEN.decode() if found[1] is None else f"{HIDDEN.decode()}-{self._of_a_form(found[1])}"
        return None

    def _part(self, part: re.Match[str]) -> str:
        """Return what stands for a part of a text that means something to Discord."""
        if part["everybody"]:
            return part["everybody"].lower()
        if part["url"]:
            return f"https://example.com/scrubbed_{self._number('url', part['url'])}"
        if part["seconds"]:
            false = self._moment(int(part["seconds"]) * 1_000_000) // 1_000_000
            return f"<t:{false}{part['style'] or ''}>"
        if part["id"]:
            return f"{part['before']}{self._id(int(part['id']))}>"
        return f"{part['named']}{self._words(part['name'])}:{self._id(int(part['its']))}>"

    def _words(self, text: str, *, apart: bool = False) -> str:
        """Return false words, with a space on either side where there was one, or to keep them apart."""
        inner = text.strip()
        if not inner:
            return " " if text else ""
        before = " " if text[0].isspace() or apart else ""
        behind = " " if text[-1].isspace() else ""
        return f"{before}scrubbed_{self._number('text', inner)}{behind}"

    def _written(self, found: re.Match[str]) -> str | None:
        try:
            real = datetime.fromisoformat(found[0])
            false = moment_of(self._moment(microseconds(real))).astimezone(real.tzinfo)
        except (ValueError, OverflowError):
            # A month 13, or a year that no calendar here has.
            return None
        fraction = f".{false.microsecond:06d}"[: len(found[1] or "")]
        return f"{false:%Y-%m-%dT%H:%M:%S}{fraction}{found[2]}"

    def _id(self, snowflake: int) -> int:
        return self._noted(self._moments.note_id, self._moments.false_id, snowflake)

    def _moment(self, micros: int) -> int:
        return self._noted(self._moments.note, self._moments.false, micros)

    def _noted(self, note: Callable[[int], None], false: Callable[[int], int], value: int) -> int:
        if self._noting:
            note(value)
            return value
        return false(value)

    def _number(self, kind: str, value: object) -> int:
        """Return which one it is among those of its kind, in the order in which they come."""
        known = self._counted[kind]
        return known.setdefault(value, len(known) + 1)


def _is_id(value: str) -> bool:
    return _ID.fullmatch(value) is not None and int(value) < _MOST_ID
