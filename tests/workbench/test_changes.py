"""What `--set` and `--file` take, and what they refuse with a sentence."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.errors import DoesNotFit
from sandbox_core.workbench.fixtures import apply, parse_change, read_frame
from sandbox_core.workbench.fixtures.changes import MOST_BYTES

DATA: dict[str, Any] = {
    "content": "hello",
    "type": 0,
    "volume": 0.5,
    "pinned": False,
    "nick": None,
    "author": {"id": "1", "flags": 0},
    "embeds": [{"title": "first"}],
    "roles": ["1", "2"],
}


def changed(*texts: str) -> dict[str, Any]:
    data = copy.deepcopy(DATA)
    apply(data, [parse_change(each) for each in texts])
    return data


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("d.content=good morning", ["content"], "good morning"),
        ("d.content=", ["content"], ""),
        ("d.content=a=b", ["content"], "a=b"),
        ('d.content="5"', ["content"], "5"),
        # Where a text is, a text is meant: ids are digits.
        ("d.content=5", ["content"], "5"),
        ("d.content=true", ["content"], "true"),
        ("d.author.id=100000000000000001", ["author", "id"], "100000000000000001"),
        ("d.content=null", ["content"], None),
        ("d.nick=5", ["nick"], 5),
        ("d.nick=Robin", ["nick"], "Robin"),
        ("d.type=19", ["type"], 19),
        ("d.volume=1", ["volume"], 1),
        ("d.pinned=true", ["pinned"], True),
        ("d.embeds.0.title=second", ["embeds", 0, "title"], "second"),
        ("d.embeds.0.color=255", ["embeds", 0, "color"], 255),
        ('d.embeds.1={"title":"new"}', ["embeds", 1], {"title": "new"}),
        ("d.roles.1=3", ["roles", 1], "3"),
        ("d.roles=[]", ["roles"], []),
        ("d.flags=64", ["flags"], 64),
        ("d.poll=not json", ["poll"], "not json"),
        ('d.author={"id":"2"}', ["author"], {"id": "2"}),
    ],
)
def test_a_value_is_changed(text: str, path: list[Any], value: object) -> None:
    found: Any = changed(text)
    for step in path:
        found = found[step]
    assert found == value
    assert type(found) is type(value)


def test_later_changes_build_on_earlier_ones() -> None:
    assert changed("d.poll={}", "d.poll.question=really?")["poll"] == {"question": "really?"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("content=hello", "below d"),
        ("d=5", "below d"),
        ("d.=5", "below d"),
        ("d..content=5", "below d"),
        ("t=READY", "below d"),
        ("d.content", "no ="),
        ("d.poll.question=really?", "there is no d.poll"),
        ("d.embeds.1.title=x", "there is no d.embeds.1"),
        ("d.embeds.-1=x", "1 elements"),
        ("d.roles.3=x", "2 elements"),
        ("d.roles.first=x", "2 elements"),
        ("d.content.x=1", "neither an object nor a list"),
        ("d.type=many", "it is a text, and there is a number"),
        ("d.type=true", "it is true or false"),
        ("d.pinned=1", "it is a number"),
        ("d.author=Robin", "it is a text, and there is an object"),
        ("d.roles={}", "it is an object, and there is a list"),
        ('d.poll={"a":1,"a":2}', ""),
        ("d.poll=" + "[" * 70 + "]" * 70, "too deeply"),
        ("d.poll=" + "[" * 100_000, "too deeply"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, words: str) -> None:
    if not words:
        # Two fields of one name are no JSON, so it is a text.
        assert changed(text)["poll"] == text.partition("=")[2]
        return
    with pytest.raises(DoesNotFit) as refused:
        changed(text)
    assert words in refused.value.problem
    assert refused.value.right


@given(st.text())
def test_any_text_is_taken_or_refused_with_a_sentence(text: str) -> None:
    for each in (text, f"d.{text}", f"d.content={text}", f"d.embeds.{text}=1"):
        refused: DoesNotFit | None = None
        try:
            changed(each)
        except DoesNotFit as error:
            refused = error
        assert refused is None or (refused.problem and refused.right)


def test_a_file_is_a_frame_or_a_d() -> None:
    frame = {"t": "TYPING_START", "s": 7, "op": 0, "d": DATA}
    assert read_frame(json.dumps(frame).encode(), "TYPING_START") == DATA
    assert read_frame(json.dumps({"t": "TYPING_START", "d": DATA}).encode(), "TYPING_START") == DATA
    assert read_frame(json.dumps(DATA).encode(), "TYPING_START") == DATA


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON object"),
        (b'"x"', "no JSON object"),
        (b'{"a":NaN}', "no JSON"),
        (b'{"a":1,"a":2}', "each name once"),
        (b'{"a":' + b"[" * 100_000, "too deeply"),
        (b'{"a":' + b"[" * 80 + b"]" * 80 + b"}", "too deeply"),
        (b'{"t":"TYPING_START","op":1,"d":{}}', "op is not 0"),
        (b'{"t":"MESSAGE_CREATE","op":0,"d":{}}', "its type is MESSAGE_CREATE"),
        (b'{"t":"TYPING_START","op":0,"d":[]}', "its d is no JSON object"),
        (b'{"t":"TYPING_START","op":0,"d":{},"x":1}', "a frame has no x"),
        (b'{"a":"' + b"x" * MOST_BYTES + b'"}', "too large"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(DoesNotFit) as refused:
        read_frame(raw, "TYPING_START")
    assert words in refused.value.problem
