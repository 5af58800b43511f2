"""A scrubbed recording tells what happened, and of nobody to whom."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox_core.errors import DoesNotFit
from sandbox_core.workbench.fixtures import names
from sandbox_core.workbench.scrubbing import known, scrub_lines

from .frames import GUILD, filled, recording

FRAMES = filled()
KEPT = {
    *("@everyone", "deprecated", "en-US", "online", "bot", "name", "discord", "0", "🚪", "🔔", "👍", "👋"),
    # Permissions.
    *("2248473465835073", "1099511627776", "2251799813685247"),
    # The bot's own command.
    *("hello", "who"),
}
"""Every text of the fixtures that stays."""


def events(lines: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines[1:]]


def texts(value: Any) -> Iterator[str]:
    """Every string in it, and every key that is an id."""
    match value:
        case str():
            yield value
        case dict():
            for key, each in value.items():
                if key.isdigit() and len(key) > 3:
                    yield key
                yield from texts(each)
        case list():
            for each in value:
                yield from texts(each)


def pairs(real: Any, false: Any) -> Iterator[tuple[Any, Any]]:
    """Every value and what stands for it; the two have one structure."""
    assert type(real) is type(false)
    match real:
        case dict():
            assert len(real) == len(false)
            for (key, own), (other_key, its) in zip(real.items(), false.items(), strict=True):
                if key.isdigit() and len(key) > 3:
                    yield key, other_key
                else:
                    assert key == other_key
                yield from pairs(own, its)
        case list():
            assert len(real) == len(false)
            for own, its in zip(real, false, strict=True):
                yield from pairs(own, its)
        case _:
            yield real, false


def snowflakes(real: Any, false: Any) -> dict[int, int]:
    """Each id, and the one that stands for it; one for each, in the same order."""
    found: dict[int, int] = {}
    for own, its in pairs(real, false):
        if isinstance(own, str) and re.fullmatch("[1-9][0-9]{16,18}", own):
            assert re.fullmatch("[1-9][0-9]{16,18}", its)
            assert found.setdefault(int(own), int(its)) == int(its)
    assert len(set(found.values())) == len(found)
    assert [found[each] for each in sorted(found)] == sorted(found.values())
    return found


def test_of_the_fixtures_nothing_that_tells_anything_stays() -> None:
    lines = recording(FRAMES.items())
    clean = list(scrub_lines(lines))
    assert len(clean) == 80
    before, after = events(lines), events(clean)
    frames, false = [each["frame"]["d"] for each in before], [each["frame"]["d"] for each in after]
    assert set(texts(frames)) & set(texts(false)) <= KEPT | {""}
    everything = b"\n".join(clean).decode()
    for text in set(texts(frames)) - KEPT:
        # A short word may be in another, such as a key.
        assert not text or (f'"{text}"' if len(text) < 9 else text) not in everything
    assert "0123456789abcdef" not in everything
    ids = snowflakes(
        [frames, [each["guild_id"] for each in before]], [false, [each["guild_id"] for each in after]]
    )
    assert int(GUILD) in ids
    assert len(ids) >= 40
    assert [(each["at"], each["type"], each["frame"]["s"]) for each in before] == [
        (each["at"], each["type"], each["frame"]["s"]) for each in after
    ]
    assert list(scrub_lines(clean)) == clean


MEMBER = "913425648685547542"
CHANNEL = "713425648685547543"
EMOJI = "813425648685547544"
MESSAGE = str(int((datetime(2026, 11, 30, 20, 0, 7, 250_000, UTC).timestamp() - 1_420_070_400) * 1000) << 22)
HASH = "0123456789abcdef0123456789abcdef"


def test_one_message_with_everything() -> None:
    said = {
        "id": MESSAGE,
        "guild_id": GUILD,
        "timestamp": "2026-11-30T20:00:07.250000+00:00",
        "author": {"id": MEMBER, "username": "robin", "discriminator": "1234", "avatar": f"a_{HASH}"},
        "member": {"joined_at": "2019-03-01T09:30:00.123456+00:00", "nick": "Robin"},
        "content": f"Robin! <@{MEMBER}> and <@!{MEMBER}> in <#{CHANNEL}>:\n <a:wave:{EMOJI}> see"
        f" https://example.org/robin?x=1 @here </vote now:{EMOJI}> <t:1796068807:R> robin@example.org",
        "embeds": [{"type": "rich", "title": "Robin", "color": 7, "url": "https://example.org/robin?x=1"}],
        "attachments": [{"filename": "Robin's house.PNG", "size": 4711, "content_type": "image/png"}],
        "components": [{"type": 2, "id": 1, "custom_id": "robin:1", "emoji": {"id": None, "name": "👍🏽"}}],
        "poll": {"answers": [{"answer_id": 1, "poll_media": {"text": "Robin"}}]},
        "unheard_of": {"e-mail of Robin": "robin@example.org", "share": 0.25, MEMBER: [MEMBER], "no": "0042"},
    }
    [line] = events(list(scrub_lines(recording([("MESSAGE_CREATE", said)]))))
    guild, channel, emoji, member = (
        # Evenly over the years before, in the order of the real ones.
        "485056158105600000",
        "661448451686400000",
        "837840745267200000",
        "1014233038848000000",
    )
    assert line["frame"]["d"] == {
        # 7.25 s behind the beginning, as before.
        "id": "1191350138568704000",
        "guild_id": guild,
        "timestamp": "2024-01-01T12:00:07.250000+00:00",
        "author": {
            "id": member,
            "username": "scrubbed_2",
            "discriminator": "0001",
            "avatar": "a_00000000000000000000000000000001",
        },
        "member": {"joined_at": "2017-05-01T18:00:00.000000+00:00", "nick": "scrubbed_3"},
        "content": f"scrubbed_4 <@{member}> scrubbed_5 <@!{member}> scrubbed_6 <#{channel}>scrubbed_7"
        f" <a:scrubbed_8:{emoji}> scrubbed_9 https://example.com/scrubbed_1 @here </scrubbed_10:{emoji}>"
        " <t:1704110407:R> scrubbed_11",
        "embeds": [
            {"type": "rich", "title": "scrubbed_3", "color": 1, "url": "https://example.com/scrubbed_1"}
        ],
        "attachments": [{"filename": "scrubbed_1.png", "size": 2, "content_type": "image/png"}],
        "components": [
            {"type": 2, "id": 1, "custom_id": "scrubbed_12", "emoji": {"id": None, "name": "👍🏽"}}
        ],
        "poll": {"answers": [{"answer_id": 1, "poll_media": {"text": "scrubbed_3"}}]},
        "unheard_of": {"scrubbed_key_1": "scrubbed_11", "share": 1.0, member: [member], "no": "0002"},
    }
    assert (line["guild_id"], line["headers"]) == (
        guild,
        {"Nats-Msg-Id": "scrubbed_1", "Discord-Event": "MESSAGE_CREATE"},
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # The bot's own command: its code asks for these names.
        ({"name": "vote", "options": [{"name": "for", "value": "Robin"}]}, ("vote", "for")),
        ({"name": "Report it", "type": 3}, ("Report it",)),
        # A server's own, which anybody may have named there.
        ({"name": "robin", "guild_id": GUILD, "options": [{"name": "of", "value": 7}]}, ()),
        ({"custom_id": "robin", "name": "robin"}, ()),
    ],
)
def test_the_names_of_a_bots_own_commands_stay(data: dict[str, Any], expected: tuple[str, ...]) -> None:
    kind = 3 if "custom_id" in data else 2
    secret = "aW50ZXJhY3Rpb246MTIzNDU2Nzg5MDEyMzQ1Njc4OTpYeVo"
    event = {"id": MESSAGE, "type": kind, "token": secret, "data": data}
    [line] = events(list(scrub_lines(recording([("INTERACTION_CREATE", event)]))))
    said = line["frame"]["d"]
    kept = [said["data"]["name"], *(each["name"] for each in said["data"].get("options", ()))]
    assert tuple(each for each in kept if not each.startswith("scrubbed_")) == expected
    # The gateway tells sandboxes apart by an interaction's token.
    assert said["token"] == f"not-recorded-{said['id']}"


def test_what_an_audit_log_tells_is_of_the_kind_that_it_says() -> None:
    changes = [
        {"key": "permissions", "old_value": "8", "new_value": "1099511627776"},
        {"key": "owner_id", "new_value": MEMBER},
        {"key": "rate_limit_per_user", "old_value": 5, "new_value": 10},
        {"key": "topic", "new_value": "Robin"},
        {"key": "$add", "new_value": [{"id": MEMBER, "name": "Robin"}]},
    ]
    entry = {"user_id": MEMBER, "changes": changes}
    [line] = events(list(scrub_lines(recording([("GUILD_AUDIT_LOG_ENTRY_CREATE", entry)]))))
    member = line["frame"]["d"]["user_id"]
    assert line["frame"]["d"]["changes"] == [
        changes[0],
        {"key": "owner_id", "new_value": member},
        changes[2],
        {"key": "topic", "new_value": "scrubbed_2"},
        {"key": "$add", "new_value": [{"id": member, "name": "scrubbed_2"}]},
    ]


@pytest.mark.parametrize(
    "raw", [b'{"t":"X","s":4,"op":0,"d":{"content":"\xffRobin","n":1}}', b"\x00Robin", b"[]"]
)
def test_a_frame_that_was_kept_as_bytes_becomes_readable(raw: bytes) -> None:
    lines = recording([("X", {})])
    kept = json.loads(lines[1])
    del kept["frame"]
    lines[1] = json.dumps(kept | {"frame_base64": base64.b64encode(raw).decode()}).encode()
    [line] = events(list(scrub_lines(lines)))
    readable = {"t": "X", "s": 4, "op": 0, "d": {"content": "scrubbed_2", "n": 1}}
    assert line["frame"] == (readable if raw.startswith(b"{") else {"t": "X", "s": 1, "op": 0, "d": {}})
    assert "frame_base64" not in line


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "its first line is not that of one"),
        ([b"{}"], "its first line is not that of one"),
        ([b"no JSON"], "line 1 is no JSON object"),
        ([b'{"recording":1}'], "its first line does not say when it began"),
        ([b'{"recording":1,"began":"today"}'], "its first line does not say when it began"),
        ([recording([])[0], b"{}", b'{"at":'], "line 3 is no JSON object"),
        ([recording([])[0], b"[" * 100_000], "line 2 is no JSON object"),
    ],
)
def test_what_is_no_recording_is_refused(lines: list[bytes], problem: str) -> None:
    with pytest.raises(DoesNotFit) as refused:
        list(scrub_lines(lines))
    assert refused.value.problem == problem


def _snowflake(milliseconds: int, rest: int) -> str:
    return str((milliseconds << 22) + rest)


_IDS = [_snowflake(90_000_000_000 + 7_777_777_777 * number, 1_000_001 + number) for number in range(32)]
_MARKED = st.integers(10_000, 99_999).map("Wxyz-{}".format)
_ID = st.sampled_from(_IDS)
_SAID = st.lists(
    st.one_of(
        _MARKED,
        _ID.map("<@{}>".format),
        _ID.map("<#{}>".format),
        st.builds("<:Wxyz_{}:{}>".format, st.integers(10_000, 99_999), _ID),
        st.builds("https://{}.example.org/{}?{}".format, _MARKED, _MARKED, _ID),
        st.builds("{}@example.org".format, _MARKED),
        st.sampled_from(
            [" ", "\n", "@everyone", "<", ">", ":", "é", "//", "<t:1796068807>", "scrubbed_1", "1"]
        ),
        _ID,
    ),
    max_size=6,
).map("".join)
_LEAF = st.one_of(
    st.none(),
    st.booleans(),
    _ID,
    _ID.map(int),
    _SAID,
    st.integers(-(2**70), 2**70),
    st.integers(1_000_000_000_000, 3_000_000_000_000),
    st.floats(allow_nan=False),
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    st.from_regex(r"\A(a_)?[0-9a-f]{32}\Z"),
    st.from_regex(r"\A[0-9]{1,25}\Z").filter(lambda text: text not in _IDS),
)
_WORDS = sorted(
    {
        *known.COUNTED,
        *known._FORMS,
        "content",
        "name",
        "emoji",
        "user",
        "filename",
        "key",
        "new_value",
        "token",
    }
)
# An id can't be told from permissions.
_FITTING = [each for each in _WORDS if known._FORMS.get(each) is not known._BITS]
_KEYS = st.one_of(st.sampled_from(_FITTING), _ID, st.from_regex(r"\A[a-z_]{2,12}\Z"))
_DATA = st.dictionaries(
    _KEYS,
    st.recursive(
        _LEAF,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=6,
)
_TYPES = st.sampled_from([*names(), "NEVER_HEARD_OF"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(_TYPES, _DATA), max_size=4))
def test_of_any_recording_nobody_stays_and_everything_keeps_its_order(
    events_of: list[tuple[str, Any]],
) -> None:
    lines = recording(events_of)
    clean = list(scrub_lines(lines))
    everything = b"\n".join(clean).decode()
    assert not re.search("xyz[-_][0-9]", everything.lower())
    assert "example.org" not in everything
    assert not [each for each in _IDS if each in everything]
    # Tokens' values may change their kind.
    real = [_without_secrets(each["frame"]["d"]) for each in events(lines)]
    false = [_without_secrets(each["frame"]["d"]) for each in events(clean)]
    snowflakes(real, false)
    one_for_each: dict[Any, Any] = {}
    for own, its in pairs(real, false):
        if isinstance(own, str) and own in _IDS:
            assert one_for_each.setdefault(own, its) == its
    assert list(scrub_lines(clean)) == clean
    assert list(scrub_lines(lines)) == clean


def _without_secrets(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: _without_secrets(each)
                for key, each in value.items()
                if "token" not in key and "key" not in key and "secret" not in key and "passw" not in key
            }
        case list():
            return [_without_secrets(each) for each in value]
        case _:
            return value
