"""Reading frames: the guild id at its place and nowhere else, whatever else the frame holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.events import GUILD_LOCATIONS, FrameError, GuildLocation, guild_location, read_frame
from sandbox_core.events import frame as frame_module

GUILD = "413625648685547541"
DECOY = "999999999999999999"

# Somebody else's guild ids, at every place that is not the event's own.
DECOYS: dict[str, Any] = {
    "message_reference": {"guild_id": DECOY, "message_id": DECOY},
    "referenced_message": {"guild_id": DECOY, "message_reference": {"guild_id": DECOY}},
    "data": {"guild_id": DECOY, "resolved": {"guild_id": DECOY}},
    "guild": {"id": DECOY, "guild_id": DECOY},
    "embeds": [{"guild_id": DECOY}],
    "content": f'"guild_id":"{DECOY}"',
}


def dispatch(event_type: str, data: Any, seq: int = 7) -> bytes:
    return json.dumps({"t": event_type, "s": seq, "op": 0, "d": data}).encode()


def placed(location: GuildLocation, guild_id: Any) -> dict[str, Any]:
    """Event data with the guild id where this kind of event has it, and decoys everywhere else."""
    match location:
        case GuildLocation.REQUIRED | GuildLocation.OPTIONAL:
            return {**DECOYS, "id": DECOY, "meta": {"guild_id": DECOY}, "guild_id": guild_id}
        case GuildLocation.OWN_ID:
            return {**DECOYS, "guild_id": DECOY, "meta": {"guild_id": DECOY}, "id": guild_id}
        case GuildLocation.META:
            return {**DECOYS, "guild_id": DECOY, "id": DECOY, "meta": {"guild_id": guild_id}}
        case GuildLocation.NONE:
            return {**DECOYS, "guild_id": DECOY, "id": DECOY, "meta": {"guild_id": DECOY}}


def test_the_table_is_the_documented_one() -> None:
    documented = Path(__file__).parents[2].parent / "shared" / "data" / "gateway_event_guild_location.json"
    assert len(GUILD_LOCATIONS) == 79
    if not documented.exists():
        pytest.skip("the documented table is not beside this checkout")
    assert {event: place.value for event, place in GUILD_LOCATIONS.items()} == json.loads(
        documented.read_text()
    )


@pytest.mark.parametrize(
    ("event_type", "location"), sorted(GUILD_LOCATIONS.items(), key=lambda item: item[0])
)
def test_the_guild_id_is_read_at_its_place_only(event_type: str, location: GuildLocation) -> None:
    frame = read_frame(dispatch(event_type, placed(location, GUILD)), 1.5)
    assert frame.guild_id == (None if location is GuildLocation.NONE else GUILD)
    assert not frame.guild_id_unreadable
    assert (frame.type, frame.seq, frame.received_at) == (event_type, 7, 1.5)


@pytest.mark.parametrize(
    ("event_type", "location"), sorted(GUILD_LOCATIONS.items(), key=lambda item: item[0])
)
def test_a_missing_guild_id_is_told_from_an_event_without_guild(
    event_type: str, location: GuildLocation
) -> None:
    frame = read_frame(dispatch(event_type, DECOYS), 0.0)
    assert frame.guild_id is None
    has_always_one = location in {GuildLocation.REQUIRED, GuildLocation.OWN_ID, GuildLocation.META}
    assert frame.guild_id_unreadable is has_always_one


@pytest.mark.parametrize(
    "value", [True, 1.5, "", "12a", "٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣", ["1"], {"id": GUILD}, -5, "*", ">"]
)
@pytest.mark.parametrize("event_type", ["MESSAGE_CREATE", "GUILD_MEMBER_ADD", "GUILD_CREATE", "RATE_LIMITED"])
def test_what_is_no_snowflake_is_never_a_guild(event_type: str, value: Any) -> None:
    frame = read_frame(dispatch(event_type, placed(guild_location(event_type), value)), 0.0)
    assert frame.guild_id is None
    assert frame.guild_id_unreadable


def test_a_number_and_an_escaped_string_are_the_same_guild() -> None:
    assert read_frame(dispatch("MESSAGE_CREATE", {"guild_id": int(GUILD)}), 0.0).guild_id == GUILD
    escaped = "".join(f"\\u{ord(digit):04x}" for digit in GUILD)
    raw = b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"guild_id":"' + escaped.encode() + b'"}}'
    assert read_frame(raw, 0.0).guild_id == GUILD


@pytest.mark.parametrize("event_type", sorted(GUILD_LOCATIONS))
def test_an_ordinary_frame_never_needs_the_slow_decoder(
    event_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object) -> None:
        raise AssertionError("the strict decoder refused an ordinary frame")

    monkeypatch.setattr(frame_module, "_read_leniently", slow)
    location = GUILD_LOCATIONS[event_type]
    for guild_id in (GUILD, int(GUILD), None, True, {"id": 1}):
        read_frame(dispatch(event_type, placed(location, guild_id)), 0.0)
    read_frame(dispatch(event_type, DECOYS), 0.0)


def test_an_unknown_event_is_read_at_the_top_level() -> None:
    frame = read_frame(dispatch("GUILD_SOMETHING_NEW", {**DECOYS, "guild_id": GUILD}), 0.0)
    assert frame.guild_id == GUILD
    assert read_frame(dispatch("SOMETHING_NEW", [1, 2, 3]), 0.0).guild_id is None


@pytest.mark.parametrize(
    "raw",
    [
        b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"content":"\\ud800","guild_id":"%s"}}' % GUILD.encode(),
        b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"x":NaN,"guild_id":"%s"}}' % GUILD.encode(),
        b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"id":"\xff","guild_id":"%s"}}' % GUILD.encode(),
    ],
    ids=["lone surrogate", "not a number", "no UTF-8"],
)
def test_what_only_the_lenient_decoder_takes_is_routed_all_the_same(raw: bytes) -> None:
    frame = read_frame(raw, 0.0)
    assert (frame.type, frame.guild_id, frame.raw) == ("MESSAGE_CREATE", GUILD, raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"guild_id":"\xff"}}',
        b'{"t":"INTERACTION_CREATE","s":1,"op":0,"d":{"guild_id":"\xff","data":{"name":"\xfe"}}}',
    ],
)
def test_a_guild_that_is_no_utf_8_is_unreadable(raw: bytes) -> None:
    frame = read_frame(raw, 0.0)
    assert (frame.guild_id, frame.guild_id_unreadable, frame.raw) == (None, True, raw)


def test_an_event_without_utf_8_in_what_tells_its_owner_is_read() -> None:
    frame = read_frame(b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"channel_id":"\xff"}}', 0.0)
    assert (frame.type, frame.guild_id, frame.guild_id_unreadable) == ("MESSAGE_CREATE", None, False)
    assert frame.hints is not None


@pytest.mark.parametrize(
    ("event_type", "location"), sorted(GUILD_LOCATIONS.items(), key=lambda item: item[0])
)
def test_the_lenient_decoder_reads_the_same_place(event_type: str, location: GuildLocation) -> None:
    data = {**placed(location, GUILD), "strange": float("nan")}
    frame = read_frame(dispatch(event_type, data), 0.0)
    assert frame.guild_id == (None if location is GuildLocation.NONE else GUILD)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"op":0',
        b'{"op":"0"}',
        b'{"t":"MESSAGE_CREATE","op":0,"d":{}}',
        b'{"s":4,"op":0,"d":{}}',
        b'{"t":5,"s":1,"op":0,"d":{}}',
        b'{"t":"X","s":null,"op":0,"d":{"x":NaN}}',
    ],
)
def test_what_is_no_frame_is_refused(raw: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(raw, 0.0)


@pytest.mark.parametrize(
    "raw", [b'{"op":11}', b'{"op":9,"d":false}', b'{"op":1,"d":NaN}', b'{"op":7,"d":null}']
)
def test_other_opcodes_have_no_event(raw: bytes) -> None:
    frame = read_frame(raw, 0.0)
    assert (frame.type, frame.seq, frame.guild_id) == ("", -1, None)
    assert "op=" in repr(frame)


@pytest.mark.parametrize(
    ("kind", "data", "own"),
    [
        (2, {"name": "sandbox"}, True),
        (4, {"name": "sandbox"}, True),
        (2, {"name": "sandboxes"}, False),
        (3, {"custom_id": "sandbox:destroy:yes"}, True),
        (5, {"custom_id": "sandbox:extend"}, True),
        (3, {"custom_id": "other:sandbox:"}, False),
        (3, {"name": "sandbox"}, False),
        (1, {}, False),
        (2, None, False),
    ],
)
@pytest.mark.parametrize("strange", [{}, {"x": float("nan")}], ids=["strict", "lenient"])
def test_own_interactions_are_recognised(kind: int, data: Any, own: bool, strange: dict[str, Any]) -> None:
    raw = dispatch("INTERACTION_CREATE", {"type": kind, "guild_id": GUILD, "data": data, **strange})
    frame = read_frame(raw, 0.0)
    assert frame.is_own_interaction is own
    assert frame.guild_id == GUILD


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(DECOY),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["guild_id", "id", "meta", "data", "x", "name"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(
    event_type=st.sampled_from(sorted(GUILD_LOCATIONS)),
    noise=st.dictionaries(st.text(max_size=10), json_values, max_size=5),
)
def test_random_content_never_changes_the_guild(event_type: str, noise: dict[str, Any]) -> None:
    location = GUILD_LOCATIONS[event_type]
    kept = {
        key: value for key, value in noise.items() if key not in {"guild_id", "id", "meta", "data", "type"}
    }
    raw = dispatch(event_type, {**placed(location, GUILD), **kept})
    frame = read_frame(raw, 0.0)
    assert frame.guild_id == (None if location is GuildLocation.NONE else GUILD)
    assert frame.raw == raw


@given(
    event_type=st.sampled_from([*sorted(GUILD_LOCATIONS), "AN_EVENT_OF_TOMORROW", "GUILD_CREATE"]),
    guild_id=st.just(GUILD) | st.text(max_size=5) | json_values,
    data=st.dictionaries(st.sampled_from(["id", "meta", "data", "type", "flags", "channel_id"]), json_values),
    op=st.sampled_from([0, 0, 0, 10, 11]),
)
def test_one_pass_reads_what_the_careful_reading_reads(
    event_type: str, guild_id: object, data: dict[str, Any], op: int
) -> None:
    for fields in ({**data, "guild_id": guild_id}, {**data, "id": guild_id}, data):
        raw = json.dumps({"op": op, "d": fields, "s": 7, "t": event_type}).encode()
        frame, careful = read_frame(raw, 1.0), frame_module._read_any(raw, 1.0, ())
        for name in type(frame).__struct_fields__:
            if name != "hints":
                assert getattr(frame, name) == getattr(careful, name), name
        assert (frame.hints is None) == (careful.hints is None)
