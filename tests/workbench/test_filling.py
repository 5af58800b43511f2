"""A real server takes the place of the invented one, as far as it is known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox_core.errors import InvalidInput
from sandbox_core.workbench.fixtures import Found, Scene, Snowflakes, fill, load, names

from .frames import GUILD

VOICE, OLD, TEXT, NEWS = (f"10000000000000000{number}" for number in range(1, 5))
THREAD, ROLE, LAST = "100000000000000011", "100000000000000021", "100000000000000031"
ALEX, BOT = "100000000000000041", "100000000000000042"


def channel(channel_id: str, kind: int, name: str, position: int, **more: Any) -> dict[str, Any]:
    return {"id": channel_id, "type": kind, "guild_id": GUILD, "name": name, "position": position, **more}


def member(user_id: str, name: str, *, bot: bool = False) -> dict[str, Any]:
    user = {"id": user_id, "username": name, "bot": bot}
    return {"user": user, "nick": None, "roles": [], "joined_at": "2025-01-01T00:00:00.000000+00:00"}


def real(**others: Any) -> Found:
    guild = {
        "id": GUILD,
        "name": "Real",
        "owner_id": ALEX,
        "system_channel_id": None,
        "roles": [{"id": GUILD, "name": "@everyone"}, {"id": ROLE, "name": "Team", "managed": False}],
        "emojis": [],
        "stickers": [],
        "approximate_member_count": 42,
        "approximate_presence_count": 7,
    }
    known: dict[str, Any] = {
        "guild": guild,
        "channels": [
            channel(VOICE, 2, "voice", 0),
            channel(OLD, 0, "old", 3, last_message_id=None),
            channel(TEXT, 0, "text", 1, last_message_id=LAST),
            channel(NEWS, 5, "news", 2, last_message_id=None),
        ],
        "members": [member(BOT, "bot", bot=True), member(ALEX, "alex")],
        "bot": member(BOT, "bot", bot=True),
        "application": {"id": BOT, "flags": 7, "verify_key": "not told"},
    }
    return Found(guild_id=GUILD, **known | others)


def made(name: str, found: Found, **where: str) -> dict[str, Any]:
    return fill(load(name).data, Scene(found, **where), Snowflakes())


def test_channels_people_and_roles_are_the_servers_own() -> None:
    message = made("MESSAGE_CREATE", real())
    assert (message["guild_id"], message["channel_id"], message["author"]["id"]) == (GUILD, TEXT, ALEX)
    assert "user" not in message["member"]
    assert made("MESSAGE_DELETE", real())["id"] == LAST
    assert made("VOICE_STATE_UPDATE", real())["channel_id"] == VOICE
    assert made("GUILD_ROLE_DELETE", real())["role_id"] == ROLE
    assert made("INTERACTION_CREATE", real())["application_id"] == BOT
    assert made("READY", real())["application"] == {"id": BOT, "flags": 7}
    updated = made("CHANNEL_UPDATE", real())
    assert (updated["id"], updated["name"], updated["guild_id"]) == (TEXT, "text", GUILD)


def test_a_whole_server_is_the_real_one() -> None:
    guild = made("GUILD_CREATE", real())
    assert [each["id"] for each in guild["channels"]] == [VOICE, OLD, TEXT, NEWS]
    assert all("guild_id" not in each for each in guild["channels"])
    assert (guild["name"], guild["member_count"], guild["threads"]) == ("Real", 42, [])
    assert not [key for key in guild if key.startswith("approximate")]
    assert guild["members"][0]["user"]["id"] == ALEX
    assert guild["members"][2]["user"]["id"] == BOT


def test_who_is_invented_has_no_role_of_a_real_server() -> None:
    assert made("GUILD_CREATE", real(members=[]))["members"][0]["roles"] == []


def test_a_thread_is_the_servers_own() -> None:
    thread = {"id": THREAD, "type": 11, "parent_id": TEXT, "name": "thread", "guild_id": GUILD}
    found = real(threads=[thread])
    assert made("THREAD_DELETE", found) == {"id": THREAD, "guild_id": GUILD, "parent_id": TEXT, "type": 11}
    assert made("TYPING_START", found, channel_id=THREAD)["channel_id"] == THREAD


def test_the_channel_can_be_chosen() -> None:
    assert made("MESSAGE_CREATE", real(), channel_id=OLD)["channel_id"] == OLD
    system = real().guild | {"system_channel_id": OLD}  # type: ignore[operator]
    assert made("MESSAGE_CREATE", real(guild=system))["channel_id"] == OLD
    # Without Discord's answer it is taken as it is.
    assert made("MESSAGE_CREATE", Found(guild_id=GUILD), channel_id=OLD)["channel_id"] == OLD


@pytest.mark.parametrize(
    ("channel_id", "problem"),
    [
        ("100000000000000099", "the server has none with this id"),
        ("general", "a channel's id is 17 to 20 digits"),
        ("${guild.id}", "a channel's id is 17 to 20 digits"),
    ],
)
def test_a_foreign_channel_is_refused(channel_id: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Scene(real(), channel_id=channel_id)
    assert refused.value.problem == problem


def test_a_channel_for_no_messages_is_refused() -> None:
    category = channel(OLD, 4, "category", 0)
    with pytest.raises(InvalidInput, match="nobody can write there"):
        Scene(real(channels=[category]), channel_id=OLD)


@pytest.mark.parametrize("text", ["${channel.name}", "${none}", "${nothing.like.this}", "${new.x}", "..."])
def test_what_people_write_is_never_filled(text: str) -> None:
    found = real(
        guild={**(real().guild or {}), "name": text},
        channels=[channel(TEXT, 0, text, 0, topic=text, last_message_id=LAST)],
        members=[member(ALEX, text)],
    )
    scene = Scene(found)
    events = {name: fill(load(name).data, scene, Snowflakes()) for name in names()}
    assert events["CHANNEL_DELETE"]["name"] == events["CHANNEL_DELETE"]["topic"] == text
    assert events["MESSAGE_CREATE"]["author"]["username"] == text
    assert events["GUILD_CREATE"]["name"] == text


def test_one_event_does_not_change_the_next() -> None:
    found, ids = real(), Snowflakes()
    scene = Scene(found)
    first = fill(load("GUILD_CREATE").data, scene, ids)
    first["channels"][0]["name"] = first["members"][0]["user"]["username"] = "changed"
    assert "changed" not in json.dumps(fill(load("GUILD_CREATE").data, scene, ids))


def test_ids_grow_while_the_clock_stands_still_or_goes_back() -> None:
    times = iter([2.0, 2.0, 1.0])
    ids = Snowflakes(lambda: 1_790_000_000 + next(times))
    made_ids = [ids.at(ids.now()) for _ in range(3)]
    assert made_ids == sorted(set(made_ids))
