"""The parts without I/O: tokens, ids, numbers, intents, records."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from sandbox_core.client_endpoint import ClientEndpoint, user_id_in
from sandbox_core.credentials import CredentialsKey
from sandbox_core.models import Sandbox, SandboxStatus, short_id
from sandbox_core.subjects import schema_name
from sandbox_gateway import tokens
from sandbox_gateway.sessions import intents
from sandbox_gateway.sessions.frames import divide
from sandbox_gateway.sessions.records import Record, Told
from sandbox_gateway.sessions.session_ids import SessionId, SessionIds

KEY, OTHER = (CredentialsKey(SecretStr(letter * 32)) for letter in "ko")


def sandbox(generation: int = 1, key: CredentialsKey = KEY) -> Sandbox:
    made, now = uuid4(), datetime.now(UTC)
    return Sandbox(
        id=made,
        name="mine",
        owner="200000000000000001",
        status=SandboxStatus.RUNNING,
        schema_name=schema_name(short_id(made)),
        created_at=now,
        expires_at=now + timedelta(hours=1),
        generation=generation,
        key_id=key.fingerprint if generation else "",
    )


def test_a_token_is_of_one_sandbox_and_one_generation() -> None:
    mine, theirs = sandbox(), sandbox()
    token = ClientEndpoint("http://x", "613425648685547541", KEY).token(mine)
    assert (len(token), token.count(".")) == (81, 2)
    assert user_id_in(token) == "613425648685547541"
    for written in (token, f"Bot {token}"):
        read = tokens.read(written)
        assert read is not None
        assert read.is_of(mine, KEY)
        assert not read.is_of(theirs, KEY)
        assert not read.is_of(mine, OTHER)
        assert not read.is_of(mine.evolve(generation=2), KEY)
        assert token not in repr(read)


@pytest.mark.parametrize(
    "token", ["", "x", "MA.sbx-0000000g." + "a" * 43, "MA.sbx-00000000." + "a" * 42, "a.b.c", "Bot Bot x"]
)
def test_what_is_no_token_is_none(token: str) -> None:
    assert tokens.read(token) is None


@pytest.mark.parametrize("token", ["sim-token", "", "....", "ÿ.x", "YWJj.x.y"])
def test_a_token_that_names_nobody(token: str) -> None:
    assert user_id_in(token) == "0"


def test_session_ids_are_read_by_the_same_key_only() -> None:
    made = SessionId(uuid4(), 3, "00ff00ff00ff00ff", (1 << 26) - 1, 1, 2, 17, 10**15, 10**9, 250)
    text = SessionIds(KEY).write(made)
    assert SessionIds(KEY).read(text) == made
    assert SessionIds(OTHER).read(text) is None
    for wrong in ("", "ü", text[:-4], text[4:], text + text):
        assert SessionIds(KEY).read(wrong) is None


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), st.integers(0, 2**31 - 1))
def test_only_the_number_changes(body: dict[str, object], sequence: int) -> None:
    for keys in (("t", "s", "op", "d"), ("op", "s", "d", "t"), ("d", "t", "op", "s")):
        frame = {"t": "MESSAGE_CREATE", "s": 5, "op": 0, "d": {**body, "s": 5}}
        text = json.dumps({key: frame[key] for key in keys}, separators=(",", ":")).encode()
        divided = divide(text)
        assert divided is not None
        assert json.loads(divided.numbered(sequence)) == {**frame, "s": sequence}
    assert divide(b'{"op":11}') is None
    assert divide(b'{"t":null,"s":null,"op":10,"d":{}}') is None


def test_bytes_of_a_body_stay_whatever_the_order_of_the_keys() -> None:
    body = b'{ "a" : 1.0,\n"b":"\\u00fc", "c":1e5 }'
    for text in (b'{"t":"X","s":1,"op":0,"d":%b}' % body, b'{"op":0,"d":%b,"s":1,"t":"X"}' % body):
        divided = divide(text)
        assert divided is not None
        assert body in divided.numbered(7)


@pytest.mark.parametrize(
    ("event", "in_guild", "needed"),
    [
        ("MESSAGE_CREATE", True, 1 << 9),
        ("MESSAGE_CREATE", False, 1 << 12),
        ("MESSAGE_REACTION_ADD", True, 1 << 10),
        ("GUILD_MEMBER_ADD", True, 1 << 1),
        ("GUILD_ROLE_CREATE", True, 1),
        ("GUILD_SCHEDULED_EVENT_CREATE", True, 1 << 16),
        ("INTERACTION_CREATE", True, 0),
        ("SOMETHING_NEW", True, 0),
    ],
)
def test_events_need_intents(event: str, in_guild: bool, needed: int) -> None:
    assert intents.needed(event, in_guild=in_guild) == needed


def test_privileged_intents_need_flags() -> None:
    privileged = intents.MEMBERS | intents.PRESENCES | intents.MESSAGE_CONTENT
    assert intents.lacking(privileged, 0) == privileged
    assert intents.lacking(privileged, 1 << 13 | 1 << 14 | 1 << 19) == 0
    assert intents.lacking(1, 0) == 0


def test_content_is_taken_from_others_messages_only() -> None:
    def seen(**message: object) -> dict[str, object]:
        frame = {"t": "MESSAGE_CREATE", "s": 1, "op": 0, "d": {"content": "x", "guild_id": "1", **message}}
        return dict(json.loads(intents.without_content(json.dumps(frame).encode(), "7"))["d"])

    assert seen(author={"id": "8"}, poll={})["content"] == ""
    assert "poll" not in seen(author={"id": "8"}, poll={})
    assert seen(author={"id": "7"})["content"] == "x"
    assert seen(mentions=[{"id": "7"}])["content"] == "x"
    others = [{"content": "x", "author": {"id": each}} for each in ("8", "7")]
    answers = [seen(author={"id": "8"}, referenced_message=each)["referenced_message"] for each in others]
    assert answers == [{**others[0], "content": ""}, others[1]]
    passed = seen(author={"id": "8"}, message_snapshots=[{"message": {"content": "x", "embeds": [{}]}}])
    assert passed["message_snapshots"] == [{"message": {"content": "", "embeds": []}}]


def test_what_may_not_have_arrived_is_told_again() -> None:
    told = [Told(5, "a", True), Told(7, "b", False), Told(9, "c", True)]
    record = Record([(4, 40), (8, 80)], ["a", "c"], told)
    assert record.guilds_at(10) == {"a", "c"}
    assert record.guilds_at(9) == {"a"}
    assert record.guilds_at(6) == {"a", "b"}
    assert record.guilds_at(5) == {"b"}
    assert [record.uncertain_at(number) for number in (10, 9, 6)] == [set(), {"c"}, {"b", "c"}]
    record.uncertain = ["d"]
    assert record.uncertain_at(10) == {"d"}
    assert (record.mark_for(3), record.mark_for(4), record.mark_for(100)) == (None, (4, 40), (8, 80))
