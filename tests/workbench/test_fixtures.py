"""Every fixture is there, whole, and in its documented form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from sandbox_core.errors import DoesNotFit
from sandbox_core.events import read_frame
from sandbox_core.events.table import GUILD_LOCATIONS, GuildLocation
from sandbox_core.workbench.fixtures import (
    Found,
    Scene,
    Snowflakes,
    catalogue,
    fill,
    load,
    load_emittable,
    names,
)
from tests.sim.openapi import URN

from .frames import GUILD, filled

NOW = 1_790_000_000.123
DESCRIBED = json.loads(Path(__file__).with_name("described.json").read_text())
"""What Discord's OpenAPI description says of the objects in events."""
_NUMBERED = frozenset({"animation_id", "answer_id"})
"""Their names end as an id's does, and they count."""
_TIMES = frozenset({"timestamp", "edited_timestamp", "joined_at", "created_at"})
_EPOCH = 1_420_070_400_000


@pytest.fixture(scope="module")
def frames() -> dict[str, dict[str, Any]]:
    return filled()


def walk(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value in it, with the keys that lead there."""
    yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from walk(each, (*path, str(key)))


def test_there_is_one_for_each_documented_type() -> None:
    there = {each.name for each in catalogue._HERE.joinpath("events").iterdir()}
    assert there == {f"{name}.json" for name in GUILD_LOCATIONS}
    assert len(names()) == 79
    assert all(load(name).about.endswith(".") for name in names())
    assert [name for name in names() if not load(name).emittable] == ["READY", "RESUMED"]


@pytest.mark.parametrize("name", sorted(GUILD_LOCATIONS))
def test_the_guild_stands_at_the_documented_place(name: str, frames: dict[str, dict[str, Any]]) -> None:
    raw = json.dumps({"t": name, "s": 1, "op": 0, "d": frames[name]}).encode()
    frame = read_frame(raw, 0)
    here = GUILD_LOCATIONS[name] is not GuildLocation.NONE
    assert (frame.guild_id, frame.guild_id_unreadable) == (GUILD if here else None, False)


@pytest.mark.parametrize("name", sorted(GUILD_LOCATIONS))
def test_everything_is_filled_with_ids_and_times(name: str, frames: dict[str, dict[str, Any]]) -> None:
    for path, value in walk(frames[name]):
        if isinstance(value, str):
            assert "${" not in value, path
            assert "..." not in path
        key = path[-1] if path else ""
        if (key == "id" or key.endswith("_id")) and value is not None:
            if key in _NUMBERED:
                assert isinstance(value, int), path
            elif key != "session_id" and "activities" not in path:
                assert re.fullmatch(r"[1-9][0-9]{16,19}", value), path
        if key in _TIMES and isinstance(value, str):
            assert datetime.fromisoformat(value).utcoffset() is not None, path


def test_new_ids_are_of_the_moment_that_the_timestamps_tell() -> None:
    ids, scene = Snowflakes(lambda: NOW), Scene(Found(guild_id=GUILD))
    first = fill(load("MESSAGE_CREATE").data, scene, ids)
    second = fill(load("MESSAGE_CREATE").data, scene, ids)
    assert (int(first["id"]) >> 22) + _EPOCH == 1_790_000_000_123
    assert first["timestamp"] == "2026-09-21T14:13:20.123000+00:00"
    assert int(second["id"]) > int(first["id"])
    edited = fill(load("MESSAGE_UPDATE").data, scene, ids)
    made = datetime.fromisoformat(edited["timestamp"]).timestamp()
    assert round(made * 1000) == (int(edited["id"]) >> 22) + _EPOCH
    assert edited["edited_timestamp"] == first["timestamp"]
    interaction = fill(load("INTERACTION_CREATE").data, scene, ids)
    assert interaction["token"] == f"made-by-emit-{interaction['id']}"
    typing = fill(load("TYPING_START").data, scene, ids)
    assert typing["timestamp"] == 1_790_000_000
    invite = fill(load("INVITE_CREATE").data, scene, ids)
    ends, begins = (datetime.fromisoformat(invite[key]) for key in ("expires_at", "created_at"))
    assert (ends - begins).total_seconds() == invite["max_age"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("MESSAGE_CRATE", "Did you mean MESSAGE_CREATE"),
        ("message_create", "Did you mean MESSAGE_CREATE"),
        ("../scene", "--list shows them"),
        ("", "--list shows them"),
    ],
)
def test_an_unknown_type_is_told_its_neighbours(wrong: str, words: str) -> None:
    with pytest.raises(DoesNotFit) as refused:
        load(wrong)
    assert words in refused.value.right


@pytest.mark.parametrize("name", ["READY", "RESUMED"])
def test_what_belongs_to_the_connection_can_not_be_emitted(name: str) -> None:
    with pytest.raises(DoesNotFit, match="belongs to the connection"):
        load_emittable(name)


SHAPES = [
    ("GUILD_UPDATE", (), "GuildResponse"),
    ("GUILD_ROLE_CREATE", ("role",), "GuildRoleResponse"),
    ("GUILD_ROLE_UPDATE", ("role",), "GuildRoleResponse"),
    ("GUILD_MEMBER_ADD", (), "GuildMemberResponse"),
    ("GUILD_MEMBER_UPDATE", (), "GuildMemberResponse"),
    ("GUILD_BAN_ADD", ("user",), "UserResponse"),
    ("GUILD_EMOJIS_UPDATE", ("emojis", 1), "EmojiResponse"),
    ("GUILD_STICKERS_UPDATE", ("stickers", 1), "GuildStickerResponse"),
    ("GUILD_SCHEDULED_EVENT_CREATE", (), "VoiceScheduledEventResponse"),
    ("GUILD_SOUNDBOARD_SOUND_CREATE", (), "SoundboardSoundResponse"),
    ("CHANNEL_CREATE", (), "GuildChannelResponse"),
    ("CHANNEL_UPDATE", (), "GuildChannelResponse"),
    ("THREAD_UPDATE", (), "ThreadResponse"),
    ("STAGE_INSTANCE_CREATE", (), "StageInstanceResponse"),
    ("MESSAGE_CREATE", (), "MessageResponse"),
    ("MESSAGE_UPDATE", (), "MessageResponse"),
    ("AUTO_MODERATION_RULE_CREATE", (), "KeywordRuleResponse"),
    ("ENTITLEMENT_CREATE", (), "EntitlementResponse"),
    ("GUILD_AUDIT_LOG_ENTRY_CREATE", (), "AuditLogEntryResponse"),
    ("VOICE_STATE_UPDATE", (), "VoiceStateResponse"),
]


@pytest.mark.parametrize(("name", "path", "shape"), SHAPES, ids=[f"{n}-{s}" for n, _, s in SHAPES])
def test_objects_have_the_shape_that_discord_describes(
    name: str, path: tuple[Any, ...], shape: str, frames: dict[str, dict[str, Any]]
) -> None:
    resource = Resource.from_contents(DESCRIBED, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(URN, resource)
    value: Any = frames[name]
    for step in path:
        value = value[step]
    schema = {"$ref": f"{URN}#/components/schemas/{shape}"}
    jsonschema.Draft202012Validator(schema, registry=registry).validate(value)
