"""A call that stays in the sandbox's servers comes to Discord, and its answer back, as they were."""

from __future__ import annotations

import aiohttp
import pytest

from tests.guard.recorder import LIMITS, Answer, Recorder
from tests.guard.rig import C1, C_FOREIGN, FOREIGN, G1, REAL_TOKEN, Rig


async def test_the_real_token_takes_the_place_of_the_sandboxs(guard: Rig, discord: Recorder) -> None:
    reply = await guard.ask("GET", f"/channels/{C1}/messages?limit=5")
    assert reply.status == 200
    (call,) = discord.calls(f"/channels/{C1}/messages")
    assert call.headers["authorization"] == f"Bot {REAL_TOKEN}"
    assert call.query == "limit=5"


async def test_the_answer_is_discords(guard: Rig, discord: Recorder) -> None:
    discord.answers["POST", f"/channels/{C1}/messages"] = Answer(400, {"code": 50006, "message": "empty"})
    reply = await guard.ask("POST", f"/channels/{C1}/messages", json={"content": ""})
    assert reply.status == 400
    assert reply.json == {"code": 50006, "message": "empty"}
    assert reply.headers["Content-Type"] == "application/json"
    for name, value in LIMITS.items():
        assert reply.headers[name] == value


async def test_what_was_checked_is_what_is_sent(guard: Rig, discord: Recorder) -> None:
    body = '{ "content" : "h\\u00e9llo \\ud83d",  "nonce": 12345678901234567890 }'
    await guard.ask(
        "POST", f"/channels/{C1}/messages", data=body, headers={"Content-Type": "application/json"}
    )
    (call,) = discord.calls(f"/channels/{C1}/messages")
    assert call.body == b'{"content":"h\\u00e9llo \\ud83d","nonce":12345678901234567890}'
    assert call.headers["content-type"] == "application/json"


async def test_only_known_headers_are_sent_on(guard: Rig, discord: Recorder) -> None:
    sent = {
        "X-Audit-Log-Reason": "because%20of%20it",
        "X-HTTP-Method-Override": "DELETE",
        "X-Forwarded-For": "1.2.3.4",
        "Cookie": "a=b",
        "X-Super-Properties": "x",
    }
    await guard.ask("POST", f"/channels/{C1}/messages", json={"content": "a"}, headers=sent)
    (call,) = discord.calls(f"/channels/{C1}/messages")
    assert call.headers["x-audit-log-reason"] == "because%20of%20it"
    assert not {name.lower() for name in sent if name != "X-Audit-Log-Reason"} & call.headers.keys()


@pytest.mark.parametrize("prefix", ["/api", "/api/v9", "/api/v10"])
async def test_the_version_stays(guard: Rig, discord: Recorder, prefix: str) -> None:
    assert (await guard.ask("GET", f"/guilds/{G1}", prefix=prefix)).status == 200
    target = discord.requests[-1].target
    assert target == f"{'/api/v10' if prefix == '/api' else prefix}/guilds/{G1}"


async def test_a_large_answer_is_passed_in_pieces(guard: Rig, discord: Recorder) -> None:
    picture = bytes(range(256)) * 4096
    discord.answers["GET", f"/guilds/{G1}/widget.png"] = Answer(200, picture, {"Content-Type": "image/png"})
    reply = await guard.ask("GET", f"/guilds/{G1}/widget.png")
    assert reply.body == picture
    assert reply.headers["Content-Type"] == "image/png"


async def test_an_answer_without_content(guard: Rig) -> None:
    reply = await guard.ask("DELETE", f"/channels/{C1}/messages/{C1}")
    assert (reply.status, reply.body) == (204, b"")


async def test_a_file_comes_through(guard: Rig, discord: Recorder) -> None:
    picture = bytes(range(256)) * 3000
    form = aiohttp.FormData()
    form.add_field("payload_json", '{"content": "look"}', content_type="application/json")
    form.add_field("files[0]", picture, filename='a "b".png', content_type="image/png")
    assert (await guard.ask("POST", f"/channels/{C1}/messages", data=form)).status == 200
    (call,) = discord.calls(f"/channels/{C1}/messages")
    assert picture in call.body
    assert b'name="files[0]"; filename="a%20%22b%22.png"\r\nContent-Type: image/png' in call.body
    assert b'{"content":"look"}' in call.body


async def test_files_before_the_json(guard: Rig, discord: Recorder) -> None:
    """As discord.js sends them."""
    form = aiohttp.FormData()
    form.add_field("files[0]", b"x" * 100_000, filename="a.txt", content_type="text/plain")
    form.add_field("payload_json", '{"content": "look"}')
    assert (await guard.ask("POST", f"/channels/{C1}/messages", data=form)).status == 200
    assert b'{"content":"look"}' in discord.calls(f"/channels/{C1}/messages")[0].body


async def test_a_payload_in_a_form_becomes_json(guard: Rig, discord: Recorder) -> None:
    """As py-cord sends its callbacks."""
    reply = await guard.ask("POST", f"/channels/{C1}/messages", data={"payload_json": '{"content": "a"}'})
    assert reply.status == 200
    (call,) = discord.calls(f"/channels/{C1}/messages")
    assert (call.json, call.headers["content-type"]) == ({"content": "a"}, "application/json")


async def test_a_channel_is_asked_for_once(guard: Rig, discord: Recorder) -> None:
    for _ in range(3):
        await guard.ask("GET", f"/channels/{C1}/pins")
    assert len(discord.calls(f"/channels/{C1}")) == 1


async def test_known_channels_are_not_asked_for(guard: Rig, discord: Recorder) -> None:
    guard.places.learn(G1, [C_FOREIGN])
    guard.places.learn(FOREIGN, [C1])
    assert (await guard.ask("GET", f"/channels/{C_FOREIGN}/pins")).status == 200
    assert (await guard.ask("GET", f"/channels/{C1}/pins")).status == 403
    assert [each.path for each in discord.requests if each.path.startswith("/channels")] == [
        f"/channels/{C_FOREIGN}/pins"
    ]
