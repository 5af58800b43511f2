"""Events that happen in a guild and do not say so: found by their channel or their interaction."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox_core.attribution import ChannelGuilds
from sandbox_core.events import DIRECT, Frame, Place, read_frame
from sandbox_core.models import Route
from sandbox_core.routing import PRODUCTION, UNATTRIBUTED, RouteTable, decide, sandbox_destination

MAPPED, OTHER = "413625648685547541", "513625648685547541"
SANDBOX = "3f2a9c01-7b1c-4b7e-9d55-0d3f0a1b2c3d"
TABLE = RouteTable({MAPPED: Route(SANDBOX, 1000.0)})
EPHEMERAL = {"flags": 64, "interaction_metadata": {"id": "77"}}


def frame(event_type: str, **data: Any) -> Frame:
    return read_frame(json.dumps({"t": event_type, "s": 1, "op": 0, "d": data}).encode(), 0.0)


@pytest.fixture
def guilds() -> ChannelGuilds:
    guilds = ChannelGuilds()
    guilds.learn(frame("GUILD_CREATE", id=MAPPED, channels=[{"id": "1"}, {"id": "2"}], threads=[{"id": "3"}]))
    guilds.learn(frame("GUILD_CREATE", id=OTHER, channels=[{"id": "9"}]))
    return guilds


def decided(guilds: ChannelGuilds, event: Frame) -> Any:
    guild = guilds.of(event.hints)
    event.attributed_to = None if guild == DIRECT else guild
    return decide(event, TABLE, 0.0)


@pytest.mark.parametrize("event_type", ["MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "TYPING_START"])
def test_the_channel_tells_the_guild(guilds: ChannelGuilds, event_type: str) -> None:
    for channel_id in "123":
        assert decided(guilds, frame(event_type, channel_id=channel_id)) == sandbox_destination(SANDBOX)
    assert decided(guilds, frame(event_type, channel_id="9")) is PRODUCTION


def test_a_direct_message_stays_productions(guilds: ChannelGuilds) -> None:
    assert decided(guilds, frame("MESSAGE_CREATE", channel_id="555", flags=0)) is PRODUCTION
    assert decided(guilds, frame("CHANNEL_PINS_UPDATE", channel_id="555")) is PRODUCTION


def test_an_ephemeral_message_of_nobody_known_goes_to_neither_side(guilds: ChannelGuilds) -> None:
    event = frame("MESSAGE_CREATE", channel_id="555", **EPHEMERAL)
    assert decided(guilds, event) is UNATTRIBUTED


def test_the_interaction_tells_the_guild_of_its_message(guilds: ChannelGuilds) -> None:
    guilds.learn(frame("INTERACTION_CREATE", id="77", type=2, guild_id=MAPPED, data={"name": "ban"}))
    event = frame("MESSAGE_CREATE", channel_id="555", **EPHEMERAL)
    assert decided(guilds, event) == sandbox_destination(SANDBOX)


def test_an_interaction_teaches_its_channel(guilds: ChannelGuilds) -> None:
    guilds.learn(frame("INTERACTION_CREATE", id="78", type=2, guild_id=MAPPED, channel_id="40"))
    assert decided(guilds, frame("MESSAGE_DELETE", channel_id="40", id="1")) == sandbox_destination(SANDBOX)


def test_channels_come_and_go(guilds: ChannelGuilds) -> None:
    guilds.learn(frame("CHANNEL_CREATE", id="5", guild_id=MAPPED))
    guilds.learn(frame("THREAD_CREATE", id="6", guild_id=MAPPED))
    guilds.learn(frame("THREAD_LIST_SYNC", guild_id=MAPPED, threads=[{"id": "7"}]))
    assert {guilds.of(frame("MESSAGE_CREATE", channel_id=c).hints) for c in "567"} == {MAPPED}
    guilds.learn(frame("CHANNEL_DELETE", id="5", guild_id=MAPPED))
    guilds.learn(frame("THREAD_DELETE", id="6", guild_id=MAPPED))
    assert {guilds.of(frame("MESSAGE_CREATE", channel_id=c).hints) for c in "56"} == {DIRECT}
    guilds.learn(frame("GUILD_DELETE", id=MAPPED, unavailable=True))
    assert guilds.of(frame("MESSAGE_CREATE", channel_id="7").hints) == MAPPED
    guilds.learn(frame("GUILD_DELETE", id=MAPPED))
    assert len(guilds) == 1


def test_interactions_are_forgotten_in_time(guilds: ChannelGuilds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox_core.attribution.guilds._INTERACTIONS_KEPT", 2)
    for number in range(3):
        guilds.learn(frame("INTERACTION_CREATE", id=str(number), type=2, guild_id=MAPPED))
    event = frame("MESSAGE_CREATE", interaction_metadata={"id": "0"}, flags=64)
    assert guilds.of(event.hints) is None


@pytest.mark.parametrize(
    ("event_type", "data", "place"),
    [
        ("MESSAGE_CREATE", {"flags": 64}, Place.GUILD),
        ("MESSAGE_CREATE", {"flags": 4}, Place.DIRECT),
        ("MESSAGE_CREATE", {}, Place.DIRECT),
        ("MESSAGE_CREATE", {"flags": 64, "channel_type": 1}, Place.DIRECT),
        ("MESSAGE_CREATE", {"flags": 0, "channel_type": 3}, Place.DIRECT),
        ("MESSAGE_CREATE", {"flags": 0, "channel_type": 11}, Place.GUILD),
        ("MESSAGE_UPDATE", {"flags": 0}, Place.DIRECT),
        ("MESSAGE_UPDATE", {"flags": 66}, Place.GUILD),
        ("MESSAGE_UPDATE", {}, Place.UNCLEAR),
        ("MESSAGE_DELETE", {}, Place.UNCLEAR),
        ("TYPING_START", {}, Place.UNCLEAR),
        ("MESSAGE_DELETE", {"flags": "64", "channel_type": "1"}, Place.UNCLEAR),
    ],
)
def test_what_an_event_tells_of_its_place(event_type: str, data: dict[str, Any], place: Place) -> None:
    hints = frame(event_type, channel_id="1", **data).hints
    assert hints is not None
    assert hints.place is place


def test_what_names_its_guild_or_is_an_interaction_has_no_hints() -> None:
    assert frame("MESSAGE_CREATE", channel_id="1", guild_id=MAPPED, flags=64).hints is None
    assert frame("INTERACTION_CREATE", channel_id="1").hints is None
    # Read leniently: a lone surrogate.
    assert frame("INTERACTION_CREATE", channel_id="1", token="\ud83d").hints is None


def test_strange_payloads_teach_nothing_and_tell_nothing(guilds: ChannelGuilds) -> None:
    guilds.learn(frame("GUILD_CREATE", id=MAPPED, channels={"id": "60"}))
    strange = frame("MESSAGE_CREATE", channel_id=60, flags="64", interaction_metadata=[1])
    assert guilds.of(strange.hints) == DIRECT, "as an event without flags is one of direct messages"
    assert guilds.of(frame("USER_UPDATE", channel_id="1").hints) is None
    event = frame("MESSAGE_CREATE", channel_id="1", flags="x")
    assert guilds.of(event.hints) == MAPPED
