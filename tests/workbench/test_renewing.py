"""Frames whose values are changed in place: all other bytes stay."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.errors import DoesNotFit, GuildNotRegistered, InvalidInput
from sandbox_core.models import Sandbox, SandboxStatus
from sandbox_core.workbench.places import changed, places
from sandbox_core.workbench.renewing import Renewal, renewed
from sandbox_core.workbench.repeating import Speed, fitting_guilds
from sandbox_core.workbench.seen import SeenEvent

A, B, C, D = (f"10000000000000000{number}" for number in range(1, 5))
BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = 3600.0

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def snowflake(moment: datetime, low: int = 1) -> str:
    return str((round(moment.timestamp() * 1000) - 1_420_070_400_000) << 22 | low)


def event(kind: str, data: dict[str, Any], *, after: float = 0.0, guild: str | None = None) -> SeenEvent:
    frame = json.dumps({"t": kind, "s": 1, "op": 0, "d": data}).encode()
    headers = {"Discord-Event": kind} | ({} if guild is None else {"Discord-Guild-Id": guild})
    return SeenEvent(1, kind, headers, frame, BEGIN + timedelta(seconds=after))


def data_of(frame: bytes) -> Any:
    return json.loads(frame)["d"]


def _leaves(value: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], bool, Any]]:
    if isinstance(value, dict):
        return [
            each
            for key, inner in value.items()
            for each in [(path, True, key), *_leaves(inner, (*path, key))]
        ]
    if isinstance(value, list):
        return [each for inner in value for each in _leaves(inner, path)]
    return [(path, False, value)]


@given(_values, st.sampled_from([None, 1]), st.booleans())
def test_every_value_is_found_with_its_path(value: Any, indent: int | None, ascii_only: bool) -> None:
    frame = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    found = list(places(frame))
    expected = _leaves(value, ())
    assert len(found) == len(expected)
    for place, (path, is_key, leaf) in zip(found, expected, strict=True):
        text = frame[place.begin : place.end]
        assert place.is_key == is_key
        assert json.loads(text.decode(errors="surrogatepass")) == leaf
        assert [json.loads(f'"{each}"') for each in place.path] == list(path) or b"\xed" in frame
    assert changed(frame, lambda _: None) is frame
    every = changed(frame, lambda place: "x" if place.quoted else None)
    assert all(place.text == "x" for place in places(every) if place.quoted)


@given(st.binary(max_size=200))
def test_what_is_no_json_raises_nothing(frame: bytes) -> None:
    assert changed(frame, lambda _: None) == frame


def test_ids_and_times_are_new_and_what_belongs_together_still_does() -> None:
    message, answer, interaction = (snowflake(BEGIN + timedelta(seconds=each)) for each in (0, 5, 6))
    old = snowflake(BEGIN - timedelta(hours=1))
    channel, person = snowflake(BEGIN, 7), snowflake(BEGIN, 8)
    events = [
        event(
            "MESSAGE_CREATE",
            {
                "id": message,
                "channel_id": channel,
                "author": {"id": person},
                "timestamp": "2026-01-02T03:04:05.250000+00:00",
                "edited_timestamp": None,
                "content": message,
                "referenced_message": {"id": old, "timestamp": "2026-01-02T02:04:05+00:00"},
            },
            guild=A,
        ),
        event("MESSAGE_REACTION_ADD", {"message_id": message, "channel_id": channel}, after=1),
        event(
            "INTERACTION_CREATE",
            {
                "id": interaction,
                "channel": {"id": channel, "last_message_id": message},
                "data": {
                    "type": 3,
                    "target_id": message,
                    "resolved": {"messages": {message: {"id": message}}},
                },
            },
            after=6,
        ),
        event("MESSAGE_CREATE", {"id": answer, "interaction_metadata": {"id": interaction}}, after=7),
        event("MESSAGE_DELETE_BULK", {"ids": [message, answer], "channel_id": channel}, after=8),
        event("TYPING_START", {"timestamp": int(BEGIN.timestamp()) + 9, "user_id": person}, after=9),
    ]
    renewal = Renewal(events, lambda moment: moment + HOUR)
    frames = [renewed(each, [renewal.change(each)]) for each in events]
    first, reaction, press, second, bulk, typing = map(data_of, frames)

    new, new_old = first["id"], first["referenced_message"]["id"]
    assert new == snowflake(BEGIN + timedelta(hours=1))
    assert new_old == snowflake(BEGIN)
    assert first["timestamp"] == "2026-01-02T04:04:05.250000+00:00"
    assert first["referenced_message"]["timestamp"] == "2026-01-02T03:04:05+00:00"
    # What a person wrote stays, and so do the ids of channels and people.
    assert (first["content"], first["channel_id"], first["author"]) == (message, channel, {"id": person})
    assert reaction == {"message_id": new, "channel_id": channel}
    assert press["channel"] == {"id": channel, "last_message_id": new}
    assert press["data"] == {"type": 3, "target_id": new, "resolved": {"messages": {new: {"id": new}}}}
    assert second["interaction_metadata"]["id"] == press["id"] != interaction
    assert bulk["ids"] == [new, second["id"]]
    assert typing["timestamp"] == int(BEGIN.timestamp()) + 9 + int(HOUR)
    in_order = [new_old, new, second["id"], press["id"]]
    assert sorted(in_order, key=int) == in_order
    for before, after in zip(events, frames, strict=True):
        # As long as before: nothing else has changed.
        assert len(before.frame) == len(after)


@given(st.lists(st.integers(min_value=1, max_value=2**63 - 1), min_size=1, max_size=30, unique=True))
def test_the_order_of_ids_stays_however_near_they_come(old: list[int]) -> None:
    events = [event("MESSAGE_CREATE", {"id": str(each)}) for each in old]
    renewal = Renewal(events, lambda _: HOUR)
    new = [int(data_of(renewed(each, [renewal.change(each)]))["id"]) for each in events]
    assert len(set(new)) == len(new)
    assert sorted(range(len(old)), key=old.__getitem__) == sorted(range(len(new)), key=new.__getitem__)


def _sandbox(*guild_ids: str) -> Sandbox:
    return Sandbox(
        id=uuid4(),
        name="target",
        owner="1",
        status=SandboxStatus.RUNNING,
        schema_name="s",
        created_at=BEGIN,
        expires_at=BEGIN,
        guild_ids=guild_ids,
    )


def test_servers_that_the_sandbox_has_not_become_its_others() -> None:
    events = [event("MESSAGE_CREATE", {}, guild=each) for each in (A, None, B, A)]
    assert fitting_guilds(events, _sandbox(A, B)) == {}
    assert fitting_guilds(events, _sandbox(D, B, C)) == {A: D}
    assert fitting_guilds(events, _sandbox(D, C)) == {A: D, B: C}
    assert fitting_guilds(events, _sandbox(D, C), wanted=C) == {A: C, B: C}
    assert fitting_guilds(events, _sandbox(A, C), wanted=A) == {B: A}
    with pytest.raises(DoesNotFit, match="2 servers"):
        fitting_guilds(events, _sandbox(D))
    with pytest.raises(GuildNotRegistered):
        fitting_guilds(events, _sandbox(D), wanted=C)
    with pytest.raises(GuildNotRegistered):
        fitting_guilds(events, _sandbox(A, C), elsewhere=False)


def test_speeds() -> None:
    assert [Speed.parse(each).factor for each in ("1x", "10X", "0.5", " max ")] == [1.0, 10.0, 0.5, None]
    for wrong in ("", "0x", "-1x", "1001x", "fast", "1e3x", "nan", "٣x"):
        with pytest.raises(InvalidInput):
            Speed.parse(wrong)


def test_an_event_that_changes_nothing_keeps_its_bytes() -> None:
    odd = replace(event("MESSAGE_CREATE", {}), frame=b'{ "t" : "X" , "d":{"a":1.0, "b":"\\u00e9\xff"} }')
    assert renewed(odd, []) is odd.frame
    assert renewed(odd, [Renewal([odd], lambda moment: moment).change(odd)]) is odd.frame
