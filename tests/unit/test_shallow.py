"""JSON that is nested deeper than parsers go down, cut to what they can read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.events import FrameError, read_frame, read_ready, shallow
from sandbox_core.events.shallow import DEEPEST

GUILD = "613425648685547541"

_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_plain)
def test_what_is_not_deep_stays_as_it_is(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    assert shallow(text) == text


def test_what_is_deep_is_null() -> None:
    whole: object = "kept"
    for _ in range(DEEPEST):
        whole = [whole]
    assert shallow(json.dumps(whole).encode()) == json.dumps(whole).encode()
    assert json.loads(shallow(json.dumps({"a": '[[[{"', "b": whole, "c": 1}).encode()))["c"] == 1
    deepest = json.loads(shallow(json.dumps([whole]).encode()))
    for _ in range(DEEPEST):
        deepest = deepest[0]
    assert deepest is None


@pytest.mark.parametrize("levels", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("opened", [("[", "]"), ('{"a":', "}"), ('[{"]":', "}]")])
@pytest.mark.parametrize("where", ["before", "after", "in the place of it"])
def test_a_deep_frame_is_read(levels: int, opened: tuple[str, str], where: str) -> None:
    deep = opened[0] * levels + "1" + opened[1] * levels
    guild_id = f'"guild_id":"{GUILD}"'
    data = {
        "before": f'"x":{deep},{guild_id}',
        "after": f'{guild_id},"x":{deep}',
        "in the place of it": f'"guild_id":{deep}',
    }[where]
    raw = f'{{"t":"MESSAGE_CREATE","s":7,"op":0,"d":{{{data}}}}}'.encode()
    frame = read_frame(raw, 0.0)
    assert (frame.raw, frame.seq, frame.type) == (raw, 7, "MESSAGE_CREATE")
    if where == "in the place of it":
        assert frame.guild_id_unreadable
    else:
        assert frame.guild_id == GUILD


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b"]" * 100_000,
        b'{"t":"X","s":1,"op":0,"d":' + b"[" * 100_000,
        b'{"t":"X","s":1,"op":0,"d":' + b"[" * 100_000 + b"]" * 99_999 + b"}",
        b'{"t":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"' + b"\\" * 200_001,
    ],
)
def test_what_is_deep_and_no_frame(raw: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(raw, 0.0)


def test_a_deep_ready_tells_its_session() -> None:
    deep = b"[" * 50_000 + b"]" * 50_000
    raw = b'{"t":"READY","s":1,"op":0,"d":{"session_id":"abc","x":%s,"guilds":[{"id":"5","y":%s}]}}' % (
        deep,
        deep,
    )
    ready = read_ready(read_frame(raw, 0.0))
    assert (ready.session_id, ready.guild_ids) == ("abc", {"5"})
