"""The lines of a recording's file, as somebody may have written them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sandbox_core.errors import DoesNotFit
from sandbox_core.workbench.recordings.lines import checked_about, checked_event

from .stage import Stage

ABOUT = b'{"recording":1,"name":"x","began":"2026-01-01T00:00:00Z","ended":null,"events":1,"scrubbed":false}'
LINE: dict[str, Any] = {
    "at": 0.5,
    "type": "MESSAGE_CREATE",
    "guild_id": "100000000000000001",
    "headers": {"Discord-Shard": "0"},
    "frame": {"t": "MESSAGE_CREATE", "s": 1, "op": 0, "d": {"guild_id": "100000000000000001"}},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"at": "x"},
        {"at": True},
        {"at": 1e300},
        {"type": "a.b"},
        {"type": 1},
        {"guild_id": "x"},
        {"guild_id": "100000000000000002"},
        {"guild_id": None},
        {"headers": {"Nats-Msg-Id": "x"}},
        {"headers": {"Discord-Shard": "0\r\nX: y"}},
        {"headers": []},
        {"frame_base64": "AA=="},
        {"frame": None, "frame_base64": "!"},
    ],
)
async def test_a_line_that_is_none_leaves_nothing(stage: Stage, changes: dict[str, Any]) -> None:
    line = {**LINE, **changes}
    if line["frame"] is None:
        del line["frame"]
    library = stage.core.recordings.library
    with pytest.raises(DoesNotFit, match="Line 3"):
        await library.import_(
            "1", "wrong", iter([ABOUT, json.dumps(LINE).encode(), json.dumps(line).encode()])
        )
    assert await library.list(None) == []
    assert await library._stream.ids() == set()


def test_lines_are_read_as_they_are() -> None:
    about = checked_about(ABOUT)
    event = checked_event(json.dumps(LINE).encode(), 1, about.began)
    assert (event.type, event.guild_id, event.stored_at - about.began) == (
        "MESSAGE_CREATE",
        "100000000000000001",
        timedelta(seconds=0.5),
    )
    for wrong in (b"", b"[]", b"{", b'{"recording":2}', ABOUT.replace(b"2026-01-01", b"soon")):
        with pytest.raises(DoesNotFit, match="Line 1"):
            checked_about(wrong)
    assert replace(about, name="y").encode() != ABOUT
