"""Bodies that name another place, in every form and disguise: none of them comes to Discord."""

from __future__ import annotations

import io
import json
from typing import Any

import aiohttp
import pytest

from tests.guard.recorder import Recorder
from tests.guard.rig import (
    APPLICATION,
    C1,
    C2,
    C_DM,
    C_FOREIGN,
    C_GONE,
    FOREIGN,
    G1,
    INSIDE_TOKEN,
    INVITE,
    W1,
    Rig,
)

MESSAGES = f"/channels/{C1}/messages"
_M = "140000000000000001"

_FOREIGN_BODIES: list[tuple[str, str, Any]] = [
    ("POST", MESSAGES, {"message_reference": {"type": 1, "channel_id": C_FOREIGN, "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"type": 1, "channel_id": int(C_FOREIGN), "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": C1, "guild_id": FOREIGN, "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": C_DM, "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": C_GONE, "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": f" {C1}", "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": f"0{C1}", "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": float(C1), "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": [C1, C_FOREIGN], "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": {"id": C1}, "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": True, "message_id": _M}}),
    ("POST", MESSAGES, [{"message_reference": {"channel_id": C_FOREIGN}}]),
    (
        "POST",
        MESSAGES,
        {"components": [{"components": [{"default_values": [{"id": C_FOREIGN, "type": "channel"}]}]}]},
    ),
    ("POST", f"/channels/{C1}/followers", {"webhook_channel_id": C_FOREIGN}),
    ("POST", f"/channels/{C1}/followers", {}),
    ("POST", f"/channels/{C1}/followers", {"webhook_channel_id": None}),
    ("POST", f"/channels/{C1}/send-soundboard-sound", {"sound_id": _M, "source_guild_id": FOREIGN}),
    ("PATCH", f"/channels/{C1}", {"parent_id": C_FOREIGN}),
    ("POST", f"/guilds/{G1}/channels", {"name": "a", "parent_id": C_FOREIGN}),
    ("PATCH", f"/guilds/{G1}/channels", [{"id": C1, "position": 1}, {"id": C_FOREIGN, "position": 2}]),
    ("PATCH", f"/guilds/{G1}/channels", [{"id": C1, "parent_id": C_FOREIGN}]),
    ("PATCH", f"/guilds/{G1}/channels", [C_FOREIGN]),
    ("PATCH", f"/guilds/{G1}", {"system_channel_id": C_FOREIGN}),
    ("PATCH", f"/guilds/{G1}", {"rules_channel_id": C_FOREIGN}),
    ("PATCH", f"/guilds/{G1}/widget", {"channel_id": C_FOREIGN}),
    ("PATCH", f"/guilds/{G1}/welcome-screen", {"welcome_channels": [{"channel_id": C_FOREIGN}]}),
    ("PUT", f"/guilds/{G1}/onboarding", {"default_channel_ids": [C1, C_FOREIGN]}),
    ("PUT", f"/guilds/{G1}/onboarding", {"prompts": [{"options": [{"channel_ids": [C_FOREIGN]}]}]}),
    ("POST", f"/guilds/{G1}/auto-moderation/rules", {"exempt_channels": [C_FOREIGN]}),
    ("POST", f"/guilds/{G1}/auto-moderation/rules", {"actions": [{"metadata": {"channel_id": C_FOREIGN}}]}),
    ("PATCH", f"/guilds/{G1}/members/{_M}", {"channel_id": C_FOREIGN}),
    ("PATCH", f"/guilds/{G1}/voice-states/@me", {"channel_id": C_FOREIGN}),
    ("POST", f"/guilds/{G1}/scheduled-events", {"channel_id": C_FOREIGN}),
    ("POST", "/stage-instances", {"channel_id": C_FOREIGN, "topic": "a"}),
    ("POST", "/stage-instances", {"topic": "a"}),
    ("PATCH", f"/webhooks/{W1}", {"channel_id": C_FOREIGN}),
    ("PATCH", f"/webhooks/{W1}/{INSIDE_TOKEN}", {"channel_id": C1}),
    ("POST", f"/webhooks/{W1}/{INSIDE_TOKEN}", {"content": "a", "thread_id": C_FOREIGN}),
    ("POST", f"/webhooks/{W1}/{INSIDE_TOKEN}/github", {"comment": {"parent_id": C_FOREIGN}}),
    ("POST", f"/webhooks/{W1}/{INSIDE_TOKEN}/slack", {"channel_id": C_FOREIGN}),
    ("POST", f"/applications/{APPLICATION}/guilds/{G1}/commands", {"guild_id": FOREIGN}),
]


async def _refused(guard: Rig, discord: Recorder, method: str, path: str, **options: Any) -> None:
    reply = await guard.ask(method, path, **options)
    assert reply.status in {400, 403, 413, 415}, (reply.status, reply.body)
    assert set(reply.json) == {"message", "code"}
    # Questions about a place are asked; the call itself is not sent.
    assert [each for each in discord.requests if each.method != "GET"] == []
    assert guard.commands.calls == []


@pytest.mark.parametrize(("method", "path", "body"), _FOREIGN_BODIES)
async def test_another_place_in_json(
    guard: Rig, discord: Recorder, method: str, path: str, body: Any
) -> None:
    await _refused(guard, discord, method, path, json=body)


@pytest.mark.parametrize(("method", "path", "body"), _FOREIGN_BODIES)
async def test_another_place_in_a_form(
    guard: Rig, discord: Recorder, method: str, path: str, body: Any
) -> None:
    await _refused(guard, discord, method, path, data={"payload_json": json.dumps(body)})


@pytest.mark.parametrize("files_first", [False, True])
@pytest.mark.parametrize(("method", "path", "body"), _FOREIGN_BODIES)
async def test_another_place_in_a_multipart_form(
    guard: Rig, discord: Recorder, method: str, path: str, body: Any, files_first: bool
) -> None:
    fields = [
        ("payload_json", json.dumps(body), {}),
        ("files[0]", b"x" * 1000, {"filename": "a.txt"}),
    ]
    form = aiohttp.FormData()
    for name, value, more in reversed(fields) if files_first else fields:
        form.add_field(name, value, **more)
    await _refused(guard, discord, method, path, data=form)
    assert json.dumps(body).encode() not in bytes(discord.received)


_INSIDE_BODIES: list[tuple[str, str, Any]] = [
    ("POST", MESSAGES, {"message_reference": {"type": 1, "channel_id": C2, "message_id": _M}}),
    ("POST", MESSAGES, {"message_reference": {"channel_id": int(C1), "guild_id": G1, "message_id": _M}}),
    ("POST", MESSAGES, {"content": "<#119999999999999999>", "components": [{"custom_id": "channel_id"}]}),
    ("PATCH", f"/channels/{C1}", {"parent_id": None}),
    ("PATCH", f"/guilds/{G1}/channels", [{"id": C1, "position": 1, "parent_id": None}]),
    ("PUT", f"/guilds/{G1}/onboarding", {"default_channel_ids": [C1, C2]}),
    ("POST", f"/webhooks/{W1}/{INSIDE_TOKEN}/github", {"comment": {"parent_id": 5, "id": 1}}),
]


@pytest.mark.parametrize(("method", "path", "body"), _INSIDE_BODIES)
async def test_a_place_of_the_sandbox(
    guard: Rig, discord: Recorder, method: str, path: str, body: Any
) -> None:
    assert (await guard.ask(method, path, json=body)).status == 200
    assert discord.requests[-1].json == body


_JSON = {"Content-Type": "application/json"}
_UNREADABLE: list[tuple[dict[str, str], bytes]] = [
    (_JSON, b'{"content":"a","content":"b"}'),
    (_JSON, f'{{"message_reference":{{"channel_id":"{C1}","channel_id":"{C_FOREIGN}"}}}}'.encode()),
    (_JSON, f'{{"parent_id":"{C1}","parent\\u005fid":"{C_FOREIGN}"}}'.encode()),
    (_JSON, b'{"a":NaN}'),
    (_JSON, b'{"a":1e999}'),
    (_JSON, b'{"a":1}{"b":2}'),
    (_JSON, b"[" + b"{}," * 250_000 + b"1]"),
    (_JSON, b"[" * 100 + b"]" * 100),
    (_JSON, b"[" * 100_000 + b"]" * 100_000),
    (_JSON, b'\xef\xbb\xbf{"content":"a"}'),
    (_JSON, b'{"content":"\xff"}'),
    (_JSON, '{"content":"a"}'.encode("utf-16")),
    (_JSON, b"content=a"),
    ({"Content-Type": "application/json; charset=utf-16"}, b'{"content":"a"}'),
    ({"Content-Type": "application/json; charset=utf-7"}, b'{"content":"a"}'),
    ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"\x1f\x8b"),
    ({"Content-Type": "application/json", "Content-Encoding": "x-gzip"}, b"\x1f\x8b"),
    ({"Content-Type": "text/plain"}, b'{"content":"a"}'),
    ({"Content-Type": "application/xml"}, b"<a/>"),
    ({"Content-Type": "application/vnd.api+json"}, b'{"content":"a"}'),
    ({"Content-Type": "application/x-www-form-urlencoded"}, b"payload_json=%7B%7D&payload_json=%7B%7D"),
    ({"Content-Type": "application/x-www-form-urlencoded"}, b"payload_json=%7B%7D&channel_id=1"),
    ({"Content-Type": "application/x-www-form-urlencoded"}, b"payload_json=%7B%7D&content=a"),
    ({"Content-Type": "application/x-www-form-urlencoded"}, b"Payload_Json=%7B%7D"),
    ({"Content-Type": "application/x-www-form-urlencoded"}, b"message_reference[channel_id]=1"),
    ({"Content-Type": "application/x-www-form-urlencoded"}, b"content=%ff"),
    ({"Content-Type": "application/x-www-form-urlencoded"}, b"content"),
    ({"Content-Type": "multipart/form-data"}, b"--a\r\n\r\n--a--\r\n"),
    ({"Content-Type": "multipart/mixed; boundary=a"}, b"--a\r\n\r\n--a--\r\n"),
]


@pytest.mark.parametrize(("headers", "data"), _UNREADABLE)
async def test_what_can_be_read_in_two_ways(
    guard: Rig, discord: Recorder, headers: dict[str, str], data: bytes
) -> None:
    await _refused(guard, discord, "POST", MESSAGES, data=data, headers=headers)


def _part(disposition: str, body: str, *more: str) -> str:
    return "\r\n".join(["--B", f"Content-Disposition: form-data; {disposition}", *more, "", body, ""])


_EVIL = json.dumps({"message_reference": {"channel_id": C_FOREIGN, "message_id": _M}})
_FORMS = [
    _part('name="payload_json"', "{}") + _part('name="payload_json"', _EVIL),
    _part('name="payload_json"; filename="a.txt"', _EVIL),
    _part('name="Payload_json"', _EVIL),
    _part('name="payload_json "', _EVIL),
    _part('name="payload%5fjson"', _EVIL),
    _part("name*=utf-8''payload_json", _EVIL),
    _part('name="a"; name="payload_json"', _EVIL),
    _part("name=payload_json", _EVIL),
    _part('name="message_reference"', _EVIL),
    _part('name="message_reference[channel_id]"', C_FOREIGN),
    _part('name="files[0]"; filename="a"', "x") + _part('name="payload_json"', _EVIL),
    _part('name="payload_json"', "e30=", "Content-Transfer-Encoding: base64"),
    _part('name="payload_json"', "{}", "Content-Encoding: gzip"),
    _part('name="payload_json"', "--C\r\n\r\na\r\n--C--", "Content-Type: multipart/mixed; boundary=C"),
    _part('filename="a.txt"', _EVIL),
    "".join(_part(f'name="files[{number}]"; filename="a"', "x") for number in range(60)),
    _part('name="payload_json"', '{"a":1,"a":2}'),
    _part('name="payload_json"', "{}") + _part('name="channel_id"', C_FOREIGN),
    _part('name="payload_json"', "x" * 2_000_000),
    _part('name="payload_json"', "{}", f"X-Long: {'a' * 20_000}"),
    _part('name="payload_json"', "{}", *(f"X-{number}: a" for number in range(500))),
    _part('name="payload_json"', "{}", "no header"),
    _part('name="payload_json"', "{}", "X-\x01: 1"),
    _part('name="files[0]"; filename="a\r.txt"', "x"),
    _part('name="files[0]"; filename="a"', "x") + _part('name="payload_json"', "{}", f"X-A: {'a' * 20_000}"),
    _part('name="payload_json"', "{}") + "--B\r\nContent-Disp",
    "",
]


@pytest.mark.parametrize("form", _FORMS)
async def test_disguises_in_a_multipart_form(guard: Rig, discord: Recorder, form: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    await _refused(
        guard, discord, "POST", MESSAGES, data=io.BytesIO(f"{form}--B--\r\n".encode()), headers=headers
    )
    assert C_FOREIGN.encode() not in bytes(discord.received).replace(f"/channels/{C_FOREIGN}".encode(), b"")


async def test_two_encodings_of_one_body(guard: Rig, discord: Recorder) -> None:
    head = (
        f"POST /api/v10{MESSAGES} HTTP/1.1\r\nHost: a\r\nAuthorization: Bot mine\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n"
        "Content-Length: 3\r\n\r\nabc"
    )
    answer = await guard.raw(head.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Type: application/json\r\n" in answer
    assert discord.calls(MESSAGES) == []


async def test_a_foreign_header_in_a_part_is_not_sent_on(guard: Rig, discord: Recorder) -> None:
    form = _part(
        'name="files[0]"; filename="a\\".txt"; evil="1"', "x", "X-Evil: 1", "Content-Type: text/html; a=b"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    reply = await guard.ask("POST", MESSAGES, data=f"{form}--B--\r\n".encode(), headers=headers)
    assert reply.status == 200
    assert b"evil" not in discord.requests[-1].body.lower()


async def test_a_form_that_is_broken_off(guard: Rig, discord: Recorder) -> None:
    """The client goes away in the middle of its file: Discord gets no end of it, either."""
    head = (
        f"POST /api/v10{MESSAGES} HTTP/1.1\r\nHost: a\r\nAuthorization: Bot mine\r\n"
        "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 100000\r\n\r\n"
    )
    await guard.raw((head + _part('name="files[0]"; filename="a"', "x" * 500)).encode())
    assert discord.calls(MESSAGES) == []


async def test_fields_of_a_form_without_a_place(guard: Rig, discord: Recorder) -> None:
    form = aiohttp.FormData()
    for name in ("name", "description", "tags"):
        form.add_field(name, name)
    form.add_field("file", b"png", filename="a.png", content_type="image/png")
    assert (await guard.ask("POST", f"/guilds/{G1}/stickers", data=form)).status == 200
    body = discord.requests[-1].body
    assert body.count(b"Content-Disposition: form-data;") == 4
    targets = aiohttp.FormData()
    targets.add_field("target_users_file", b"1\n", filename="a.csv")
    assert (await guard.ask("PUT", f"/invites/{INVITE}/target-users", data=targets)).status == 200


@pytest.mark.parametrize(
    "mentions",
    [
        [],
        {"parse": ["everyone", "all"]},
        {"parse": "everyone"},
        {"users": [{"id": "1"}]},
        {"users": ["x"]},
        {"roles": [True]},
        {"Parse": []},
    ],
)
async def test_mentions_of_another_form(guard: Rig, discord: Recorder, mentions: Any) -> None:
    await _refused(
        guard, discord, "POST", MESSAGES, json={"content": "@everyone", "allowed_mentions": mentions}
    )
    await _refused(guard, discord, "POST", MESSAGES, json={"data": [{"allowed_mentions": mentions}]})


async def test_mentions_as_libraries_write_them(guard: Rig) -> None:
    for mentions in (
        {"parse": []},
        {"parse": ["users", "roles"], "replied_user": False},
        {"users": [_M, 5]},
        None,
    ):
        reply = await guard.ask("POST", MESSAGES, json={"content": "a", "allowed_mentions": mentions})
        assert reply.status == 200


async def test_a_body_that_is_too_large(guard: Rig, discord: Recorder) -> None:
    large = io.BytesIO(b'{"content":"' + b"x" * (17 * 1024 * 1024) + b'"}')
    await _refused(guard, discord, "POST", MESSAGES, data=large, headers=_JSON)


async def test_more_places_than_can_be_looked_up(guard: Rig, discord: Recorder) -> None:
    ids = [str(int(C1) + number) for number in range(600)]
    await _refused(guard, discord, "PUT", f"/guilds/{G1}/onboarding", json={"default_channel_ids": ids})
    assert discord.requests == []


async def test_many_channels_are_looked_up_with_one_question(guard: Rig, discord: Recorder) -> None:
    ids = [str(int(C1) + 100 + number) for number in range(50)]
    discord.channels |= dict.fromkeys(ids, G1)
    reply = await guard.ask("PUT", f"/guilds/{G1}/onboarding", json={"default_channel_ids": ids})
    assert reply.status == 200
    assert [each.path for each in discord.requests if each.method == "GET" and "oauth2" not in each.path] == [
        f"/guilds/{G1}/channels",
    ]


async def test_the_body_of_a_question_is_not_sent(guard: Rig, discord: Recorder) -> None:
    assert (await guard.ask("GET", MESSAGES, json={"channel_id": C_FOREIGN})).status == 200
    assert discord.requests[-1].body == b""
