"""Targets that one reader takes for one place and the next for another: none of them comes to Discord."""

from __future__ import annotations

import pytest

from tests.guard.recorder import Recorder
from tests.guard.rig import C1, C_FOREIGN, FOREIGN, G1, Rig

_PATHS = [
    f"/channels/{C1}/..%2f..%2fchannels/{C_FOREIGN}/messages",
    f"/channels/{C1}%2f..%2f{C_FOREIGN}/messages",
    f"/channels/{C1}/../{C_FOREIGN}/messages",
    f"/channels/{C1}/%2e%2e/{C_FOREIGN}/messages",
    f"/channels/{C1}/%252e%252e/{C_FOREIGN}/messages",
    f"/channels/{C1}/.%2e/{C_FOREIGN}/messages",
    f"/channels/{C1}/..;/{C_FOREIGN}/messages",
    f"/channels/{C1};x=/{C_FOREIGN}/messages",
    f"/channels/{C1};/messages",
    f"/channels/{C1}/./messages",
    f"/channels/{C1}//messages",
    f"//channels/{C1}/messages",
    f"/channels/{C1}/messages/",
    f"/channels/{C1}\\..\\{C_FOREIGN}/messages",
    f"/channels/{C1}%5c..%5c{C_FOREIGN}/messages",
    f"/channels/{C1}%00/messages",
    f"/channels/{C1}%20/messages",
    f"/channels/{C1}%0d%0aX-A:%20b/messages",
    f"/channels/0{C1}/messages",
    f"/channels/+{C1}/messages",
    f"/channels/{C1}.0/messages",
    f"/channels/{C1},{C_FOREIGN}/messages",
    f"/channels/%31{C1[1:]}/messages",
    "/channels/99999999999999999999/messages",
    "/channels/1/messages",
    f"/Channels/{C1}/messages",
    f"/CHANNELS/{C1}/MESSAGES",
    f"/channels/{C1}/Messages",
    f"/channels/{C1}/messages%3flimit=1",
    f"/channels/{C1}/messages%23",
    f"/channels/{C1}/messages.json",
    f"/channels/{C1}/messages/{C1}/reactions/%2e%2e/@me",
    f"/channels/{C1}/messages/{C1}/reactions/../@me",
    f"/channels/{C1}/messages/{C1}/reactions/a%2f..%2fb/@me",
    f"/channels/{C1}/messages/{C1}/reactions/%ff%fe/@me",
    f"/channels/{C1}/messages/{C1}/reactions/%c0%af/@me",
    f"/channels/{C1}/messages/{C1}/reactions/%25/@me",
    f"/guilds/{G1}/../{FOREIGN}/roles",
    f"/guilds/{G1}/templates/..%2f..",
    "/guilds/@me",
    f"/webhooks/{C1}/a%2fb",
    f"/webhooks/{C1}/..",
    "/invites/..",
    "/invites/a%2fb",
    "/invites/a.b",
    "/unknown",
    "/",
    "",
    f"/channels/{'1' * 5000}",
]


@pytest.mark.parametrize("path", _PATHS)
async def test_it_does_not_come_to_discord(guard: Rig, discord: Recorder, path: str) -> None:
    for method in ("GET", "PUT"):
        reply = await guard.ask(method, path)
        assert (reply.status, reply.json["code"]) == (404, 0)
    assert discord.requests == []


@pytest.mark.parametrize(
    "prefix",
    ["/api/v8", "/api/v11", "/api/v010", "/api/v10/v10", "/api/V10", "/API/v10", "/api/v", "/v10", "",
     "/api/api", "//api/v10", "/api/v1%30", "/x/../api/v10", "/api/v10/api/v10"],
)  # fmt: skip
async def test_other_versions_and_prefixes(guard: Rig, discord: Recorder, prefix: str) -> None:
    assert (await guard.ask("GET", f"/channels/{C1}", prefix=prefix)).status == 404
    assert discord.requests == []


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "PURGE", "SEARCH"])
async def test_other_methods(guard: Rig, discord: Recorder, method: str) -> None:
    head = f"{method} /api/v10/channels/{C1} HTTP/1.1\r\nHost: a\r\nAuthorization: Bot mine\r\n\r\n"
    answer = await guard.raw(head.encode())
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert discord.requests == []


@pytest.mark.parametrize(
    "emoji",
    [
        "%F0%9F%91%8D",
        "name:130000000000000001",
        "name%3A130000000000000001",
        "%23%EF%B8%8F%E2%83%A3",
        "a_b~1",
    ],
)
async def test_emojis_stay_as_they_are(guard: Rig, discord: Recorder, emoji: str) -> None:
    path = f"/channels/{C1}/messages/{C1}/reactions/{emoji}/@me"
    assert (await guard.ask("PUT", path)).status == 200
    assert discord.requests[-1].path == path


@pytest.mark.parametrize(
    "query",
    [
        f"channel_id={C_FOREIGN}",
        f"channel_id={C1}&channel_id={C_FOREIGN}",
        f"&channel_id={C1}&&channel_id={C_FOREIGN}&",
        f"channel_id=%31{C_FOREIGN[1:]}",
        f"guild_id={FOREIGN}",
        f"thread_id={C_FOREIGN}",
        f"target_channel_id={C_FOREIGN}",
        f"source_guild_id={FOREIGN}",
        f"channel_id[]={C_FOREIGN}",
        f"channel_id%5B0%5D={C_FOREIGN}",
        f"Channel_Id={C_FOREIGN}",
        f"channel_id%00={C_FOREIGN}",
        f"channel_id=0{C1}",
        f"channel_id={C1}%20",
        "channel_id=%ff",
        "limit",
        "&".join(f"a{number}=1" for number in range(60)),
        # Under a name that Discord does not describe.
        f"id={C_FOREIGN}",
        f"channels=a,{C_FOREIGN}",
    ],
)
async def test_queries_that_name_another_place(guard: Rig, discord: Recorder, query: str) -> None:
    assert (await guard.ask("GET", f"/guilds/{G1}/messages/search?{query}")).status in {400, 403}
    assert discord.calls(f"/guilds/{G1}/messages/search") == []


async def test_a_query_is_written_anew(guard: Rig, discord: Recorder) -> None:
    reply = await guard.ask(
        "GET", f"/guilds/{G1}/messages/search?&channel_id={C1}&content=a;b%26guild_id%3D1+2&&limit=1"
    )
    assert reply.status == 200
    sent = discord.calls(f"/guilds/{G1}/messages/search")[0].query
    assert sent == f"channel_id={C1}&content=a%3Bb%26guild_id%3D1+2&limit=1"


def _head(first: str, *lines: str) -> bytes:
    return "\r\n".join([first, "Host: discord.com", "Authorization: Bot mine", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    "target",
    [
        f"http://discord.com/api/v10/channels/{C1}",
        f"https://discord.com/api/v10/channels/{C_FOREIGN}",
        f"http:/api/v10/channels/{C1}",
        f"/api/v10/channels/{C1}#/../{C_FOREIGN}",
        f"/api/v10/channels/{C1}\x00",
        f"/api/v10/channels/{C1}\xff",
        f"api/v10/channels/{C1}",
        "*",
        f"@evil/api/v10/channels/{C1}",
    ],
)
async def test_whole_addresses_and_odd_targets(guard: Rig, discord: Recorder, target: str) -> None:
    answer = await guard.raw(_head(f"GET {target} HTTP/1.1"))
    assert answer.split(b"\r\n")[0].split(b" ")[1] in {b"400", b"404"}
    assert discord.requests == []


_HIDDEN = f"DELETE /api/v10/channels/{C_FOREIGN} HTTP/1.1\r\nHost: a\r\nAuthorization: Bot real\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        (f"Content-Length: {len(_HIDDEN)}", "Transfer-Encoding: chunked"),
        ("Content-Length: 0", f"Content-Length: {len(_HIDDEN)}"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("Content-Length: +5",),
        (f"Content-Length: {len(_HIDDEN)}", "Transfer-Encoding:\tchunked"),
        ("X-A: b\nTransfer-Encoding: chunked",),
        ("X-Audit-Log-Reason: a\rTransfer-Encoding: chunked",),
        ("Authorization: Bot other",),
    ],
)
async def test_no_second_request_is_smuggled(guard: Rig, discord: Recorder, lines: tuple[str, ...]) -> None:
    first = f"POST /api/v10/channels/{C1}/messages HTTP/1.1"
    await guard.raw(_head(first, "Content-Type: application/json", *lines) + b"0\r\n\r\n" + _HIDDEN.encode())
    assert C_FOREIGN.encode() not in bytes(discord.received)
    assert not discord.calls(f"/channels/{C1}/messages")


async def test_a_body_is_not_a_request(guard: Rig, discord: Recorder) -> None:
    """What comes after a whole request is a request to the guard, and judged as one."""
    body = b'{"content":"a"}'
    head = _head(
        f"POST /api/v10/channels/{C1}/messages HTTP/1.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    answer = await guard.raw(head + body + _HIDDEN.encode())
    assert len(discord.calls(f"/channels/{C1}/messages")) == 1
    assert b"401" in answer
    assert C_FOREIGN.encode() not in bytes(discord.received)


async def test_a_reason_with_a_line_break_stays_one_header(guard: Rig, discord: Recorder) -> None:
    await guard.ask("DELETE", f"/channels/{C1}", headers={"X-Audit-Log-Reason": "a%0d%0aX-Evil: 1"})
    headers = discord.requests[-1].headers
    assert headers["x-audit-log-reason"] == "a%0d%0aX-Evil: 1"
    assert "x-evil" not in headers
