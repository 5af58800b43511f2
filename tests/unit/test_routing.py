"""The pure decision: one destination for every event, by the guild and the time alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox_core.errors import InvalidInput
from sandbox_core.event_router.messages import place_of
from sandbox_core.events import CONNECTION_EVENTS, GUILD_LOCATIONS, GuildLocation, read_frame
from sandbox_core.models import Route
from sandbox_core.routing import (
    DEAD_LETTER,
    HANDLED,
    PRODUCTION,
    UNATTRIBUTED,
    RouteTable,
    Side,
    decide,
    sandbox_destination,
)
from sandbox_core.subjects import DEFAULT_NAMES

MAPPED, UNMAPPED = "413625648685547541", "513625648685547541"
SANDBOX = "3f2a9c01-7b1c-4b7e-9d55-0d3f0a1b2c3d"
EXPIRES = 1000.0
TABLE = RouteTable({MAPPED: Route(SANDBOX, EXPIRES)})
PLACES: dict[GuildLocation, Any] = {
    GuildLocation.REQUIRED: lambda guild: {"guild_id": guild, "id": MAPPED},
    GuildLocation.OPTIONAL: lambda guild: {"guild_id": guild, "id": MAPPED},
    GuildLocation.OWN_ID: lambda guild: {"id": guild, "guild_id": MAPPED},
    GuildLocation.META: lambda guild: {"meta": {"guild_id": guild}, "guild_id": MAPPED},
    GuildLocation.NONE: lambda guild: {"guild_id": guild, "id": guild},
}
EVENTS = sorted(GUILD_LOCATIONS.items(), key=lambda item: item[0])


def frame(event_type: str, data: Any) -> Any:
    return read_frame(json.dumps({"t": event_type, "s": 1, "op": 0, "d": data}).encode(), 0.0)


@pytest.mark.parametrize(("event_type", "location"), EVENTS)
def test_every_documented_event_of_a_mapped_guild(event_type: str, location: GuildLocation) -> None:
    destination = decide(frame(event_type, PLACES[location](MAPPED)), TABLE, EXPIRES - 1)
    if event_type in CONNECTION_EVENTS:
        assert destination is HANDLED
    elif location is GuildLocation.NONE:
        assert destination is PRODUCTION
    else:
        assert destination == sandbox_destination(SANDBOX)
        place = place_of(DEFAULT_NAMES, destination, event_type)
        assert place == ("SANDBOX_3f2a9c01", f"sandbox.{SANDBOX}.events.{event_type}")


@pytest.mark.parametrize(("event_type", "location"), EVENTS)
def test_every_documented_event_of_an_unmapped_guild(event_type: str, location: GuildLocation) -> None:
    destination = decide(frame(event_type, PLACES[location](UNMAPPED)), TABLE, EXPIRES - 1)
    assert destination is (HANDLED if event_type in CONNECTION_EVENTS else PRODUCTION)


@pytest.mark.parametrize(("event_type", "location"), EVENTS)
def test_from_the_moment_of_expiry_events_are_productions(event_type: str, location: GuildLocation) -> None:
    destination = decide(frame(event_type, PLACES[location](MAPPED)), TABLE, EXPIRES)
    assert destination is (HANDLED if event_type in CONNECTION_EVENTS else PRODUCTION)


@pytest.mark.parametrize(
    ("event_type", "data", "expected"),
    [
        ("SOMETHING_NEW", {"guild_id": MAPPED}, sandbox_destination(SANDBOX)),
        ("SOMETHING_NEW", {"guild_id": UNMAPPED}, PRODUCTION),
        ("SOMETHING_NEW", {"data": {"guild_id": MAPPED}}, PRODUCTION),
        ("SOMETHING_NEW", None, PRODUCTION),
        ("SOMETHING_NEW", {"guild_id": {"id": MAPPED}}, UNATTRIBUTED),
        ("bad type", {"guild_id": MAPPED}, DEAD_LETTER),
        ("events.>", {}, DEAD_LETTER),
        ("*", {"guild_id": UNMAPPED}, DEAD_LETTER),
        ("MESSAGE_CREATE", {"content": "a direct message"}, PRODUCTION),
        ("MESSAGE_CREATE", {"message_reference": {"guild_id": MAPPED}, "guild_id": UNMAPPED}, PRODUCTION),
        ("GUILD_MEMBER_ADD", {"user": {}}, UNATTRIBUTED),
        ("GUILD_CREATE", {"guild_id": MAPPED}, UNATTRIBUTED),
        ("RATE_LIMITED", {"meta": {}}, UNATTRIBUTED),
        ("INTERACTION_CREATE", {"type": 2, "guild_id": MAPPED, "data": {"name": "sandbox"}}, HANDLED),
        ("INTERACTION_CREATE", {"type": 2, "data": {"name": "sandbox"}}, HANDLED),
        (
            "INTERACTION_CREATE",
            {"type": 2, "guild_id": MAPPED, "data": {"name": "ban", "guild_id": UNMAPPED}},
            sandbox_destination(SANDBOX),
        ),
        (
            "INTERACTION_CREATE",
            {"type": 2, "guild_id": UNMAPPED, "data": {"name": "ban", "guild_id": MAPPED}},
            PRODUCTION,
        ),
    ],
)
def test_special_frames(event_type: str, data: Any, expected: Any) -> None:
    assert decide(frame(event_type, data), TABLE, 0.0) == expected


def test_a_table_is_never_changed() -> None:
    changed = TABLE.with_changes({MAPPED: None, UNMAPPED: Route(SANDBOX, 5.0)})
    assert MAPPED in TABLE
    assert UNMAPPED not in TABLE
    assert MAPPED not in changed
    assert changed.route(UNMAPPED, 4.9) == Route(SANDBOX, 5.0)
    assert changed.route(UNMAPPED, 5.0) is None
    assert changed.route(MAPPED, 0.0) is None
    assert list(TABLE.guilds_of(SANDBOX)) == [MAPPED]
    assert (len(TABLE), len(changed.with_changes({UNMAPPED: None}))) == (1, 0)


@pytest.mark.parametrize(
    "sandbox_id", ["", "*", ">", "a.b", "3F2A9C01-7B1C-4B7E-9D55-0D3F0A1B2C3D", "not-a-uuid"]
)
def test_no_text_from_outside_forms_a_destination(sandbox_id: str) -> None:
    with pytest.raises(InvalidInput):
        sandbox_destination(sandbox_id)


def test_destinations_compare_by_what_they_mean() -> None:
    assert sandbox_destination(SANDBOX) == sandbox_destination(SANDBOX)
    assert len({sandbox_destination(SANDBOX), sandbox_destination(SANDBOX), PRODUCTION}) == 2
    assert PRODUCTION != "events."
    assert Side.PRODUCTION in repr(PRODUCTION)
