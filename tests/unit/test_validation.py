from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox_core.errors import InvalidInput
from sandbox_core.validation import generate_name, parse_duration, parse_guild_id, parse_name

WEEK = timedelta(hours=168)
VALID_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)


@pytest.mark.parametrize("name", ["abc", "a-b", "123", "a" * 63, "a--b", "welcome-flow-2"])
def test_good_names_stay_as_they_are(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "it is empty"),
        ("a" * 64, "it has 64 characters, and 63 is the most"),
        ("ab", "it needs at least 3 characters"),
        ("a;drop table", "only a-z, 0-9 and - are allowed"),
        ("*", "only a-z, 0-9 and - are allowed"),
        (">", "only a-z, 0-9 and - are allowed"),
        ("..", "only a-z, 0-9 and - are allowed"),
        ("a.b.c", "only a-z, 0-9 and - are allowed"),
        ("a b", "only a-z, 0-9 and - are allowed"),
        ("abc\n", "only a-z, 0-9 and - are allowed"),
        ("w\u0435lcome", "only a-z, 0-9 and - are allowed"),  # Cyrillic ie
        ("\uff41bc", "only a-z, 0-9 and - are allowed"),  # fullwidth a
        ("abc\u0661", "only a-z, 0-9 and - are allowed"),  # Arabic-Indic digit
        ("-abc", "it must start and end with a letter or digit"),
        ("abc-", "it must start and end with a letter or digit"),
        ("---", "it must start and end with a letter or digit"),
    ],
)
def test_bad_names_say_what_is_wrong(name: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_name(name)
    assert (refused.value.field, refused.value.value) == ("name", name)
    assert refused.value.problem == problem
    assert refused.value.example == "`welcome-flow-2`"


def test_upper_case_is_refused_with_the_right_form_offered() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_name("Welcome-Flow")
    assert (refused.value.problem, refused.value.example) == ("names are lower case", "`welcome-flow`")


@given(st.text())
@example("\u212aelvin")  # the Kelvin sign is a k when lowered
@example("\u0130stanbul")
def test_a_name_that_passes_is_safe_everywhere(text: str) -> None:
    try:
        name = parse_name(text)
    except InvalidInput:
        return
    assert name == text
    assert VALID_NAME.fullmatch(name)


@given(st.text())
@example("-" * 100)
@example("A" * 100)
@example("\u212a")
def test_a_generated_name_is_always_valid(owner: str) -> None:
    name = generate_name(owner)
    assert parse_name(name) == name
    assert re.fullmatch(r"sandbox-[a-z0-9-]+-[a-z0-9]{6}", name)


def test_a_generated_name_tells_its_owner() -> None:
    assert generate_name("J\u00f6rg M.").startswith("sandbox-jorg-m-")
    assert generate_name("\u65e5\u672c").startswith("sandbox-dev-")
    assert generate_name("alice") != generate_name("alice")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("24", timedelta(hours=24)),
        ("0.5", timedelta(minutes=30)),
        ("1m", timedelta(minutes=1)),
        ("90m", timedelta(minutes=90)),
        ("24h", timedelta(hours=24)),
        (" 3D ", timedelta(days=3)),
        ("2d 4h", timedelta(hours=52)),
        ("1h30m", timedelta(minutes=90)),
        ("168h", WEEK),
    ],
)
def test_durations(text: str, duration: timedelta) -> None:
    assert parse_duration(text, maximum=WEEK) == duration


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is not a duration"),
        ("abc", "it is not a duration"),
        ("-1h", "it is not a duration"),
        ("+1h", "it is not a duration"),
        ("1:30", "it is not a duration"),
        ("1h + 1h", "it is not a duration"),
        ("\u0661\u0662h", "it is not a duration"),
        ("nan", "it is not a duration"),
        ("1e3", "it is not a duration"),
        ("0", "the least is 1 minute"),
        ("59s", "the least is 1 minute"),
        ("10y", "the most is 168 hours"),
        ("169h", "the most is 168 hours"),
        ("9" * 400, "the most is 168 hours"),
    ],
)
def test_bad_durations_say_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_duration(text, maximum=WEEK, field="duration")
    assert (refused.value.field, refused.value.value) == ("duration", text)
    assert refused.value.problem == problem
    assert "`24h`" in refused.value.example


def test_more_than_the_maximum_is_the_maximum_where_that_is_wanted() -> None:
    for text in ("169h", "900h", "10y", "9" * 400):
        assert parse_duration(text, maximum=WEEK, capped=True) == WEEK
    assert parse_duration("90m", maximum=WEEK, capped=True) == timedelta(minutes=90)
    with pytest.raises(InvalidInput):
        parse_duration("0", maximum=WEEK, capped=True)


@given(st.text(alphabet="0123456789.smhdwy +-:,e()/*"))
def test_a_duration_that_passes_is_within_the_limits(text: str) -> None:
    try:
        duration = parse_duration(text, maximum=WEEK)
    except InvalidInput:
        return
    assert timedelta(minutes=1) <= duration <= WEEK


@pytest.mark.parametrize("text", ["1" * 17, "1" * 20, " 613425648685547541\n"])
def test_guild_ids(text: str) -> None:
    assert parse_guild_id(text) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "1" * 16, "1" * 21, "abc", "6134256486855475-1", "\u0661" * 18, "1" * 17 + "\0"]
)
def test_bad_guild_ids(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_guild_id(text)
    assert refused.value.field == "server id"
