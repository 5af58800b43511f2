"""No secret is left in a frame that is recorded, and nothing else in it changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_core.workbench.scrubbing import tokens, without_tokens

from .frames import filled

FRAMES = filled()
SECRET = "aW50ZXJhY3Rpb246MTIzNDU2Nzg5MDEyMzQ1Njc4OTpYeVo"
BOT_TOKEN = "MTIxMzgwMDAwMDAwMDAwMDAwMg.GhIjKl.abcdefghijklmnopqrstuvwxyz0123456789AB"
WITH_SECRETS = {"INTERACTION_CREATE", "VOICE_SERVER_UPDATE", "VOICE_STATE_UPDATE", "READY", "GUILD_CREATE"}


def frame(event_type: str, data: Any) -> bytes:
    return json.dumps({"t": event_type, "s": 7, "op": 0, "d": data}, separators=(",", ":")).encode()


@pytest.mark.parametrize("name", FRAMES)
def test_of_every_event_only_the_secrets_change(name: str) -> None:
    raw = frame(name, FRAMES[name])
    clean = without_tokens(raw, name)
    if name not in WITH_SECRETS:
        assert clean is raw
    before, after = json.loads(raw)["d"], json.loads(clean)["d"]
    for key in ("token", "session_id", "resume_gateway_url"):
        if key in before:
            assert before.pop(key) != after.pop(key)
    for state in (*before.get("voice_states", ()), *after.get("voice_states", ())):
        state.pop("session_id", None)
    assert before == after
    assert without_tokens(clean, name) == clean


def test_the_bytes_around_a_secret_stay() -> None:
    raw = (
        '{ "t":"INTERACTION_CREATE", "s" : 1, "op":0,"d" : {"id":"123456789012345678", "token" :\n "'
        f'{SECRET}", "data":{{"name":"tok\\u00e9n: \\"token\\":","x":1e5}}, "version":1}} }}'
    ).encode()
    clean = without_tokens(raw, "INTERACTION_CREATE")
    assert clean == raw.replace(SECRET.encode(), b"not-recorded-123456789012345678")


@pytest.mark.parametrize(
    "data",
    [
        {"token": SECRET},
        {"deep": [{"Access_Token": SECRET}], "token": SECRET},
        {"tokens": [SECRET, {"x": [SECRET, "]"]}], "name": "kept"},
        {"secrets": {"join": SECRET, "odd": "}"}, "name": "kept"},
        {"content": f"https://discord.com/api/webhooks/123456789012345678/{SECRET}?wait=true"},
        {"content": f"https://discord.com/api/v10/interactions/1/{SECRET}/callback"},
        {"url": f"https://example.com/?a=1&token={SECRET}&b=2"},
        {"content": f"my token is mfa.{SECRET}"},
    ],
)
@pytest.mark.parametrize("escape", ["none", "slashes", "letters"])
def test_a_secret_is_found_wherever_it_stands(data: Any, escape: str) -> None:
    raw = frame("MESSAGE_CREATE", data)
    if escape == "slashes":
        raw = raw.replace(b"/", b"\\/")
    elif escape == "letters":
        # Also keys mean the same when their letters are written as numbers.
        raw = raw.replace(b"o", b"\\u006f").replace(b"W", b"\\u0057")
    clean = without_tokens(raw, "MESSAGE_CREATE")
    assert SECRET[4:] not in json.dumps(json.loads(clean))
    assert json.loads(clean)["d"].keys() == data.keys()
    assert json.loads(clean)["d"].get("name") == data.get("name")


@pytest.mark.parametrize("token", [BOT_TOKEN, BOT_TOKEN.replace("GhIjKl", "sbx-k3j2h1")])
def test_a_bots_token_in_a_text_goes(token: str) -> None:
    clean = without_tokens(frame("MESSAGE_CREATE", {"content": f"look: {token}!"}), "MESSAGE_CREATE")
    assert json.loads(clean)["d"] == {"content": "look: not-recorded!"}


def test_words_about_secrets_stay() -> None:
    content = 'The "token": it is secret\\", see token=… and \\u006f; webhooks/12/x'
    raw = frame("MESSAGE_CREATE", {"content": content, "token_used": True, "nothing": "\\u0041 \u007f <é>"})
    assert without_tokens(raw, "MESSAGE_CREATE") is raw
    html = raw.replace(b"<", b"\\u003c")
    assert without_tokens(html, "MESSAGE_CREATE") is html


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x1f\x8b\x08\x00",
        b'{"t":"INTERACTION_CREATE","d":{"token":"' + SECRET.encode(),
        b'["token", "' + SECRET.encode() + b'"]',
        SECRET.encode(),
        b"[" * 100_000 + SECRET.encode(),
    ],
)
def test_of_what_is_no_event_nothing_is_kept(raw: bytes) -> None:
    clean = without_tokens(raw, "INTERACTION_CREATE")
    assert json.loads(clean) == {"t": "INTERACTION_CREATE", "s": 1, "op": 0, "d": {}}


@pytest.mark.parametrize("odd", [b'"\xff\xc3"', b'"\\ud800"', b"NaN", b"1e999"])
def test_what_only_the_gateway_reads_keeps_its_bytes(odd: bytes) -> None:
    raw = b'{"t":"X","s":1,"op":0,"d":{"token":"%s","odd":%s}}' % (SECRET.encode(), odd)
    assert without_tokens(raw, "X") == raw.replace(SECRET.encode(), b"not-recorded")


_TEXT = st.text().filter(lambda text: not tokens._has_name(text.lower().encode(errors="replace")))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(_JSON, _TEXT, _TEXT, st.booleans())
def test_of_any_event_only_the_secret_changes(value: Any, key: str, text: str, ascii_only: bool) -> None:
    data = {f"1{key}": value, "2": text, "token": SECRET, "3": [value, {f"4{text}": key}]}
    event = {"t": "X", "s": 1, "op": 0, "d": data}
    raw = json.dumps(event, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    clean = without_tokens(raw, "X")
    assert SECRET.encode() not in clean
    assert clean == raw.replace(SECRET.encode(), b"not-recorded")


def test_no_text_makes_it_slow() -> None:
    unpleasant = ["token" * 40_000, "a-" * 100_000, '"' * 100_000, "\\" * 100_000, "webhooks/1/" * 20_000]
    # A search that is not linear takes longer here than pytest waits.
    for text in unpleasant:
        raw = frame("X", {"content": text, "token": SECRET, text: "x"})
        assert SECRET.encode() not in without_tokens(raw, "X")
