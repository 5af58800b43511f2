"""Has a person change events in an editor before they are sent."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandbox_core import strict_json
from sandbox_core.errors import DoesNotFit
from sandbox_core.workbench.emitting import guild_of
from sandbox_core.workbench.fixtures import load_emittable
from sandbox_core.workbench.fixtures.changes import MOST_BYTES
from sandbox_core.workbench.seen import SeenEvent

from ._exit import usage

_MOST_EDITED = 100
_FALLBACK = "vi"
_RIGHT = (
    'Each is {"id": "12", "frame": {"t": …, "s": …, "op": 0, "d": {…}}}; one that is missing is not sent.'
)


def edited(events: Sequence[SeenEvent]) -> list[SeenEvent]:
    """Return the events as they are after `$VISUAL` or `$EDITOR` has ended, those left out missing.

    One that was not changed keeps its bytes. Raises `DoesNotFit`, and `CommandFailed` without an editor.
    """
    if len(events) > _MOST_EDITED:
        raise DoesNotFit("The events", f"they are more than {_MOST_EDITED}", "Choose fewer to edit them.")
    before = {str(event.id): _parsed(event) for event in events}
    text = json.dumps(
        [{"id": number, "frame": frame} for number, frame in before.items()], indent=2, ensure_ascii=False
    )
    after = _read(_after_editor(text), before)
    return [_with(event, before, after) for event in events if str(event.id) in after]


def _parsed(event: SeenEvent) -> Any:
    try:
        return json.loads(event.frame)
    except (ValueError, RecursionError):
        raise DoesNotFit(f"The event {event.id}", "it is no JSON", "Replay it without --edit.") from None


def _after_editor(text: str) -> str:
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or _FALLBACK)
    # Only this user may read it.
    with tempfile.TemporaryDirectory(prefix="sandboxctl-") as directory:
        file = Path(directory, "events.json")
        file.write_text(f"{text}\n", encoding="utf-8", errors="surrogatepass")
        try:
            # The caller's own program, with the caller's rights.
            code = subprocess.run([*command, str(file)], check=False).returncode  # noqa: S603
        except OSError as error:
            raise usage(f"The editor {command[0]} can't be run: {error.strerror}. Set EDITOR.") from error
        if code:
            raise usage(f"The editor ended with {code}, so nothing was replayed.")
        return file.read_text(encoding="utf-8", errors="replace")


def _read(text: str, before: dict[str, Any]) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        found = strict_json.parse(text)
    except ValueError:
        raise DoesNotFit("What was edited", "it is no JSON with each name once", _RIGHT) from None
    if not isinstance(found, list) or not all(
        isinstance(each, dict) and each.keys() == {"id", "frame"} and each["id"] in before for each in found
    ):
        raise DoesNotFit("What was edited", "it is no list of these events", _RIGHT)
    return {each["id"]: each["frame"] for each in found}


def _with(event: SeenEvent, before: dict[str, Any], after: dict[str, Any]) -> SeenEvent:
    frame = after[str(event.id)]
    if frame == before[str(event.id)]:
        return event
    if (
        not isinstance(frame, dict)
        or not isinstance(frame.get("t"), str)
        or not isinstance(frame.get("d"), dict)
    ):
        raise DoesNotFit(f"The event {event.id}", "it is no frame", _RIGHT)
    event_type = frame["t"]
    if event_type != event.type:
        load_emittable(event_type)
    guild_id = guild_of(event_type, frame["d"])
    written = json.dumps(frame, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    raw = written.encode("utf-8", errors="surrogatepass")
    if len(raw) > MOST_BYTES and len(raw) > len(event.frame):
        raise DoesNotFit(
            f"The event {event.id}", f"it has {len(raw):,} bytes", f"An event may have {MOST_BYTES:,}."
        )
    headers = {**event.headers, "Discord-Event": event_type}
    headers.pop("Discord-Guild-Id", None)
    if guild_id is not None:
        headers["Discord-Guild-Id"] = guild_id
    return replace(event, type=event_type, headers=headers, frame=raw)
