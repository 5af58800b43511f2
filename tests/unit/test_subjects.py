from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_core import subjects
from sandbox_core.errors import InvalidInput
from sandbox_core.subjects import DEFAULT_NAMES, StreamNames

ID = UUID("3f2a9c01-1111-4222-8333-444455556666")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (DEFAULT_NAMES.production_subject("MESSAGE_CREATE"), "events.MESSAGE_CREATE"),
        (
            subjects.sandbox_subject(ID, "MESSAGE_CREATE"),
            "sandbox.3f2a9c01-1111-4222-8333-444455556666.events.MESSAGE_CREATE",
        ),
        (DEFAULT_NAMES.dead_letter_subject("TOO_LARGE"), "events.dead_letter.TOO_LARGE"),
        (subjects.sandbox_filter(str(ID)), "sandbox.3f2a9c01-1111-4222-8333-444455556666.>"),
        (subjects.nats_prefix(ID), "sandbox.3f2a9c01-1111-4222-8333-444455556666."),
        (subjects.redis_prefix(ID), "sandbox:3f2a9c01-1111-4222-8333-444455556666:"),
        (subjects.route_key("613425648685547541"), "sandbox:route:613425648685547541"),
        (subjects.route_moment_key("613425648685547541"), "sandbox:route-moment:613425648685547541"),
        (subjects.channel_guild_key("7"), "sandbox:gateway:channel:7"),
        (subjects.interaction_guild_key("7"), "sandbox:gateway:interaction:7"),
        (subjects.schema_name("3f2a9c01"), "sandbox_3f2a9c01"),
    ],
)
def test_the_names(made: str, expected: str) -> None:
    assert made == expected


def test_no_code_beside_the_builders_knows_a_stream_or_its_subjects_by_heart() -> None:
    root = Path(subjects.__file__).parents[1]
    known = {
        *("sandbox_core/subjects.py", "sandbox_core/settings.py", "sandbox_core/context/_context.py"),
        # A column's heading.
        "cogs/sandbox_cogs/owner/_render.py",
    }
    # A file is called events.json.
    by_heart = re.compile(
        r"""\bEVENTS_(?:STREAM|PREFIX)\b|\bSANDBOX_STREAM\b|f?["'](?:EVENTS|SANDBOX)["']|f?["']events\.(?!json)"""
    )
    found = {
        path.relative_to(root).as_posix(): sorted(set(by_heart.findall(path.read_text(encoding="utf-8"))))
        for folder in ("bot", "cogs", "sandbox_core", "sandbox_gateway")
        for path in (root / folder).rglob("*.py")
        # The tour plays with the names that are there without any setting, and shows them.
        if "tour" not in path.parts and by_heart.search(path.read_text(encoding="utf-8"))
    }
    assert found.keys() - known == set(), found


def test_an_installation_may_have_other_names() -> None:
    names = StreamNames("PROD_EVENTS", "acme.discord", "ACME_SANDBOX")
    assert names.sandbox_stream("3f2a9c01-7b1c-4b7e-9d55-0d3f0a1b2c3d") == "ACME_SANDBOX_3f2a9c01"
    taken = [
        "ACME_SANDBOX_3f2a9c01",
        "ACME_SANDBOX",
        "ACME_SANDBOX_",
        "SANDBOX_3f2a9c01",
        "ACME_SANDBOX_3F2A9C01",
    ]
    assert [names.is_sandbox_stream(name) for name in taken] == [True, False, False, False, False]
    assert names.production_subject("MESSAGE_CREATE") == "acme.discord.MESSAGE_CREATE"
    assert names.unattributed_subject("MESSAGE_CREATE") == "acme.discord.unattributed.MESSAGE_CREATE"
    assert names.dead_letter_subject("TOO_LARGE") == "acme.discord.dead_letter.TOO_LARGE"
    assert names.route_announcements_subject != DEFAULT_NAMES.route_announcements_subject


@pytest.mark.parametrize(
    "prefix", ["events", "acme.discord", "a", "A-1_b.c", "sandboxed", "my.sandbox", "x" * 100]
)
def test_a_prefix_that_can_be_used(prefix: str) -> None:
    assert subjects.is_production_prefix(prefix)


@pytest.mark.parametrize(
    "prefix",
    [
        *("", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "a.>", "$JS", "$JS.API", "_INBOX", "_INBOX.x"),
        *("sandbox", "sandbox.prod", "sandboxes", "sandboxes.x", "events\n", "x" * 101, "\u00e9vents"),
    ],
)
def test_a_prefix_that_cannot_be_used(prefix: str) -> None:
    assert not subjects.is_production_prefix(prefix)


@pytest.mark.parametrize("name", ["EVENTS", "prod-events_1", "x" * 64])
def test_a_stream_name_that_can_be_used(name: str) -> None:
    assert subjects.is_stream_name(name)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "a/b", "a\\b", "x" * 65, "EVENTS\n"])
def test_a_stream_name_that_cannot_be_used(name: str) -> None:
    assert not subjects.is_stream_name(name)


@pytest.mark.parametrize("name", ["public", "acme", "_x", "user", "sandbox", "sandbox_prod", "a" * 40])
def test_a_control_schema_that_can_be_used(name: str) -> None:
    assert subjects.is_control_schema(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "Acme", "1a", "a-b", 'a"b', "a b", "a,b", "a.b", "$user", "acme\n", "a" * 41),
        *("pg_catalog", "pg_toast", "pg_x", "information_schema", "sandbox_0a1b2c3d"),
    ],
)
def test_a_control_schema_that_cannot_be_used(name: str) -> None:
    assert not subjects.is_control_schema(name)


@pytest.mark.parametrize("text", ["", "x", "1:2", "../1", "1\n", "\u0661", "1" * 21])
def test_what_is_no_id_forms_no_key(text: str) -> None:
    for build in (subjects.channel_guild_key, subjects.interaction_guild_key):
        with pytest.raises(InvalidInput):
            build(text)


@pytest.mark.parametrize(
    "kind", ["", "message", "*", ">", "A.B", "A B", "_A", "1A", "A\n", "\u0391", "A" * 65]
)
def test_an_event_type_that_is_no_token(kind: str) -> None:
    assert not subjects.is_event_type(kind)
    makers: list[Callable[[str], str]] = [
        DEFAULT_NAMES.production_subject,
        DEFAULT_NAMES.unattributed_subject,
        DEFAULT_NAMES.dead_letter_subject,
        lambda text: subjects.sandbox_subject(ID, text),
    ]
    for make in makers:
        with pytest.raises(InvalidInput):
            make(kind)


@pytest.mark.parametrize(
    "sandbox_id",
    ["", "*", "3f2a9c01", "route", str(ID).upper(), f"{{{ID}}}", ID.hex, f"urn:uuid:{ID}", f"{ID}\n"],
)
def test_an_id_that_is_no_uuid_as_we_write_it(sandbox_id: str) -> None:
    for make in (subjects.nats_prefix, subjects.redis_prefix, subjects.sandbox_filter):
        with pytest.raises(InvalidInput):
            make(sandbox_id)


@pytest.mark.parametrize("guild_id", ["", "*", "1" * 16, "1" * 21, "1" * 17 + "\n", "\u0661" * 18])
def test_a_guild_id_that_is_no_key(guild_id: str) -> None:
    with pytest.raises(InvalidInput):
        subjects.route_key(guild_id)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("sandbox_3f2a9c01", True),
        ("sandbox_prod_backup", False),
        ("sandbox_3F2A9C01", False),
        ("sandbox_3f2a9c01\n", False),
        ("sandbox_3f2a9c0", False),
        ("sandbox_3f2a9c011", False),
        ("xsandbox_3f2a9c01", False),
        ("", False),
    ],
)
def test_whose_schema_it_is(name: str, ours: bool) -> None:
    assert subjects.is_schema_name(name) is ours
    if not ours:
        with pytest.raises(InvalidInput):
            subjects.schema_name(name.removeprefix("sandbox_") + "-")


@given(st.uuids(), st.from_regex(r"[A-Z][A-Z0-9_]{0,63}", fullmatch=True))
def test_no_sandboxs_subject_is_anothers_or_productions(sandbox_id: UUID, kind: str) -> None:
    subject = subjects.sandbox_subject(sandbox_id, kind)
    assert subject.startswith(subjects.nats_prefix(sandbox_id))
    assert subject.count(".") == 3
    assert not subject.startswith("events.")
    assert not subjects.redis_prefix(sandbox_id).startswith(subjects.ROUTE_KEY_PREFIX)
