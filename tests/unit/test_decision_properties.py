"""Whatever else a frame holds, only the guild id at the event's own place decides where it goes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.events import CONNECTION_EVENTS, GUILD_LOCATIONS, GuildLocation, read_frame
from sandbox_core.models import Route
from sandbox_core.routing import HANDLED, PRODUCTION, Destination, RouteTable, decide, sandbox_destination

OWN, DECOY, UNMAPPED = "413625648685547541", "513625648685547541", "613625648685547541"
SANDBOX, OTHER = "3f2a9c01-7b1c-4b7e-9d55-0d3f0a1b2c3d", "4f2a9c01-7b1c-4b7e-9d55-0d3f0a1b2c3d"
TABLE = RouteTable({OWN: Route(SANDBOX, 1e12), DECOY: Route(OTHER, 1e12)})

# Names under which Discord nests other guilds' ids, and any other name.
names = st.sampled_from(
    [
        *("guild_id", "id", "meta", "guild", "message", "message_reference", "referenced_message", "data"),
        *(
            "message_snapshots",
            "resolved",
            "member",
            "invite",
            "source_guild",
            "channel",
            "d",
            "t",
            "s",
            "op",
        ),
    ]
) | st.text(max_size=8)
leaves = (
    st.sampled_from([DECOY, int(DECOY), OWN, f'"guild_id":"{DECOY}"', f'{{"guild_id":"{DECOY}"}}'])
    | st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats()
    | st.text(max_size=12)
    | st.just("\ud83d")
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5),
    max_leaves=15,
)
contents = st.dictionaries(names, trees, max_size=8)
event_types = st.sampled_from(sorted(GUILD_LOCATIONS)) | st.just("AN_EVENT_OF_TOMORROW")
guilds = st.sampled_from([OWN, UNMAPPED])
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])


def put(data: dict[str, Any], location: GuildLocation, guild: str) -> dict[str, Any]:
    """`data` with the guild id where this kind of event has it, and nothing in its way."""
    match location:
        case GuildLocation.REQUIRED | GuildLocation.OPTIONAL:
            return {**data, "guild_id": guild}
        case GuildLocation.OWN_ID:
            return {**data, "id": guild}
        case GuildLocation.META:
            nested = data.get("meta")
            return {**data, "meta": {**(nested if isinstance(nested, dict) else {}), "guild_id": guild}}
        case GuildLocation.NONE:
            return data


def decided(event_type: str, data: object, separators: tuple[str, str], *, ascii_only: bool) -> Destination:
    envelope = {"t": event_type, "s": 5, "op": 0, "d": data}
    text = json.dumps(envelope, separators=separators, ensure_ascii=ascii_only)
    # A lone surrogate has no UTF-8 form, so Discord can only send it escaped.
    raw = text.encode() if ascii_only else text.encode(errors="replace")
    frame = read_frame(raw, 0.0)
    assert frame.raw == raw
    return decide(frame, TABLE, 0.0)


def right(event_type: str, guild: str) -> Destination:
    if event_type in CONNECTION_EVENTS:
        return HANDLED
    location = GUILD_LOCATIONS.get(event_type, GuildLocation.OPTIONAL)
    if location is GuildLocation.NONE or guild == UNMAPPED:
        return PRODUCTION
    return sandbox_destination(SANDBOX)


def tamed(event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    """Without what makes an interaction this bot's own, which is another rule's business."""
    if event_type != "INTERACTION_CREATE":
        return data
    return {key: value for key, value in data.items() if key not in {"type", "data"}}


@given(event_types, guilds, contents, layouts, st.booleans(), st.randoms())
def test_decoys_at_every_depth_never_change_the_decision(
    event_type: str,
    guild: str,
    content: dict[str, Any],
    separators: tuple[str, str],
    ascii_only: bool,
    chance: Any,
) -> None:
    location = GUILD_LOCATIONS.get(event_type, GuildLocation.OPTIONAL)
    data = put(tamed(event_type, content), location, guild)
    keys = list(data)
    chance.shuffle(keys)
    shuffled = {key: data[key] for key in keys}
    assert decided(event_type, shuffled, separators, ascii_only=ascii_only) == right(event_type, guild)


@given(event_types, contents, layouts)
def test_without_a_guild_of_its_own_no_event_goes_to_a_sandbox(
    event_type: str, content: dict[str, Any], separators: tuple[str, str]
) -> None:
    location = GUILD_LOCATIONS.get(event_type, GuildLocation.OPTIONAL)
    place = {GuildLocation.OWN_ID: "id", GuildLocation.META: "meta"}.get(location, "guild_id")
    data = {key: value for key, value in tamed(event_type, content).items() if key != place}
    assert decided(event_type, data, separators, ascii_only=True).sandbox_id is None


@given(event_types, trees, layouts)
def test_data_of_any_shape_is_decided_and_never_raises(
    event_type: str, data: object, separators: tuple[str, str]
) -> None:
    if isinstance(data, dict):
        data = [data]
    assert decided(event_type, data, separators, ascii_only=True).sandbox_id is None
