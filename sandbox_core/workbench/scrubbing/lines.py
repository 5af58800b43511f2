"""Scrubs a recording: the lines of one in, the lines of one with false people, names and contents out."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from sandbox_core.errors import DoesNotFit

from .known import number_stays, text_stays
from .moments import Moments
from .stand_ins import StandIns
from .tokens import without_tokens

_DEEPEST = 64
_TYPE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_KEPT_HEADERS = {
    "Discord-Event": _TYPE,
    "Discord-Shard": re.compile(r"[0-9]{1,5}"),
    "Sandbox-Origin": re.compile(r"emitted|replayed"),
}
_COMMAND = re.compile(r"[^\x00-\x1f<>@#]{1,32}")
_RIGHT = "sandboxctl recordings export writes one: a line about it, then a line for each event."


def scrub_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the recording's lines, scrubbed; they are read to the end before the first one comes.

    The same person, name or text becomes the same false one throughout, and ids keep their order. Scrubbing a
    scrubbed recording changes nothing. Raises `DoesNotFit` for what is no recording.
    """
    kept = [each for each in lines if each.strip()]
    header = _header(kept)
    moments = Moments(_began(header))
    for _ in _scrubbed(kept, header, StandIns(moments, noting=True)):
        pass
    moments.settle()
    yield from _scrubbed(kept, header, StandIns(moments, noting=False))


def _scrubbed(kept: list[bytes], header: dict[str, Any], stand_ins: StandIns) -> Iterator[bytes]:
    scrubber = _Scrubber(stand_ins)
    yield _line(scrubber.header(header))
    for number, line in enumerate(kept[1:], 2):
        yield _line(scrubber.event(_read(line, number)))


class _Scrubber:
    def __init__(self, stand_ins: StandIns) -> None:
        self._stand_ins = stand_ins

    def header(self, header: dict[str, Any]) -> dict[str, Any]:
        """Return the recording's first line. Its own name stays: who passes it on has chosen it."""
        kept: dict[str, Any] = {
            key: header[key] for key in ("recording", "events") if isinstance(header.get(key), int)
        }
        if isinstance(name := header.get("name"), str):
            kept["name"] = name if _NAME.fullmatch(name) else "scrubbed"
        rest = {key: each for key, each in header.items() if key not in {*kept, "scrubbed"}}
        scrubbed = self._value("", "", rest, 0) | kept
        return {**{key: scrubbed[key] for key in header if key in scrubbed}, **scrubbed, "scrubbed": True}

    def event(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return an event's line."""
        scrubbed: dict[str, Any] = {}
        for key, value in line.items():
            match key:
                case "at" if _is_number(value):
                    scrubbed[key] = value
                case "type":
                    scrubbed[key] = self._type(value)
                case "headers" if isinstance(value, dict):
                    scrubbed[key] = {
                        self._kept(name, _HEADER): self._kept(each, _KEPT_HEADERS.get(name))
                        for name, each in value.items()
                    }
                case "frame" | "frame_base64":
                    # What was no JSON that could be written as it was is some now.
                    scrubbed["frame"] = self._frame(value, str(scrubbed.get("type", "")))
                case _:
                    scrubbed[self._stand_ins.key(key)] = self._value(key, "", value, 0)
        return scrubbed

    def _frame(self, value: Any, event_type: str) -> Any:
        return {
            self._stand_ins.key(key): self._type(each)
            if key == "t" and each is not None
            else self._data(event_type, each)
            if key == "d"
            else self._value(key, "", each, 0)
            for key, each in _clean_frame(value, event_type).items()
        }

    def _data(self, event_type: str, data: Any) -> Any:
        scrubbed = self._value("d", "", data, 0)
        if event_type == "INTERACTION_CREATE" and isinstance(data, dict):
            command = data.get("data")
            # A server's own commands may have been named by people; the others are the bot's code.
            if data.get("type") in (2, 4) and isinstance(command, dict) and "guild_id" not in command:
                _keep_names(command, scrubbed["data"])
        return scrubbed

    def _value(self, key: str, within: str, value: Any, depth: int) -> Any:
        """Return what stands for a value; `within` is the key of the object that it is in."""
        match value:
            case None | bool():
                return value
            case str():
                if text_stays(key, within, value):
                    return value
                return self._stand_ins.file_name(value) if key == "filename" else self._stand_ins.text(value)
            case int() | float():
                return value if number_stays(key, value) else self._stand_ins.number(key, value)
            case list():
                return [self._value(key, within, each, depth + 1) for each in value if depth < _DEEPEST]
            case _:
                changed = value.get("key") if "new_value" in value or "old_value" in value else None
                return {
                    self._stand_ins.key(name): self._value(_meaning(name, changed), key, each, depth + 1)
                    for name, each in value.items()
                    if depth < _DEEPEST
                }

    def _type(self, value: Any) -> Any:
        return self._kept(value, _TYPE)

    def _kept(self, value: Any, form: re.Pattern[str] | None) -> Any:
        if isinstance(value, str) and form is not None and form.fullmatch(value):
            return value
        return self._value("", "", value, 0)


def _clean_frame(value: Any, event_type: str) -> dict[str, Any]:
    """Return the frame without its secrets; without everything where it can't be read."""
    try:
        raw = base64.b64decode(value) if isinstance(value, str) else json.dumps(value).encode()
        frame: dict[str, Any] = json.loads(without_tokens(raw, event_type).decode(errors="replace"))
    except (ValueError, RecursionError):
        frame = json.loads(without_tokens(b"", event_type))
    return frame


def _meaning(name: str, changed: Any) -> str:
    """An audit log's entry says beside a value what it is of."""
    return changed if name in {"old_value", "new_value"} and isinstance(changed, str) else name


def _keep_names(real: dict[str, Any], scrubbed: dict[str, Any]) -> None:
    name, options = real.get("name"), real.get("options")
    if isinstance(name, str) and _COMMAND.fullmatch(name):
        scrubbed["name"] = name
    for own, its in zip(options, scrubbed["options"], strict=False) if isinstance(options, list) else ():
        if isinstance(own, dict):
            _keep_names(own, its)


def _header(kept: list[bytes]) -> dict[str, Any]:
    header = _read(kept[0], 1) if kept else {}
    if header.get("recording") != 1:
        raise DoesNotFit("The recording", "its first line is not that of one", _RIGHT)
    return header


def _began(header: dict[str, Any]) -> datetime:
    try:
        began = datetime.fromisoformat(header["began"])
    except (KeyError, TypeError, ValueError):
        raise DoesNotFit("The recording", "its first line does not say when it began", _RIGHT) from None
    return began if began.tzinfo is not None else began.replace(tzinfo=UTC)


def _read(line: bytes, number: int) -> dict[str, Any]:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise DoesNotFit("The recording", f"line {number} is no JSON object", _RIGHT)
    return read


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
