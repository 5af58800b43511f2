"""Whoever looks at an event sees a line, whatever its frame has: anybody may send anything into a sandbox."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_bot.cli import _event_views as views
from sandbox_bot.cli._screen import plain
from sandbox_core.workbench.filters import checked_filter
from sandbox_core.workbench.fixtures import names
from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.summary import Names

SOMEBODY = "200000000000000001"
_PLACES = ("id", "name", "content", "author", "user", "member", "type", "data", "emoji", "channel", "role")
_LISTS = ("channels", "threads", "attachments", "embeds")
_IDS = ("user_id", "channel_id", "answer_id", "global_name", "username", "custom_id", "topic")
_KEYS = st.sampled_from(_PLACES + _LISTS + _IDS)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=10,
)


def event(kind: str, data: Any, *, ascii_only: bool = True) -> SeenEvent:
    frame = json.dumps({"t": kind, "s": 1, "op": 0, "d": data}, ensure_ascii=ascii_only).encode()
    return SeenEvent(1, kind, {"Discord-Event": kind}, frame, datetime.now(UTC))


@given(st.sampled_from(names()), st.dictionaries(_KEYS, _ANYTHING, max_size=6))
def test_every_frame_has_a_line_and_json_and_a_place_in_filters(kind: str, data: dict[str, Any]) -> None:
    seen, known = event(kind, data), Names()
    known.learn(seen)
    assert kind in plain(views.line(seen, known))
    assert kind in plain(*views.whole(seen, known))
    assert json.loads(json.dumps(views.as_json(seen, known)))["frame"]["d"] == data
    for one in ("channel_ids", "user_ids", "guild_ids"):
        assert isinstance(checked_filter(**{one: [SOMEBODY]}).takes(seen), bool)


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_pattern_finds_letters_however_the_frame_writes_them(ascii_only: bool) -> None:
    seen = event("MESSAGE_CREATE", {"content": "Grüße 🙂"}, ascii_only=ascii_only)
    for pattern in ("Grüße", "🙂", '"content":\\s?"Gr'):
        assert checked_filter(grep=pattern).takes(seen), pattern
    assert not checked_filter(grep="Gruesse").takes(seen)
