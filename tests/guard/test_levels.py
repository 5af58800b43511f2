"""What each level leaves of the operations."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox_core.models import RestLevel
from sandbox_gateway.guard.rules import Rules
from tests.guard.recorder import Recorder
from tests.guard.rig import BOT, C1, G1, Rig

_U = "160000000000000001"
_MEMBER = f"/guilds/{G1}/members/{_U}"
READ: list[tuple[str, str, Any]] = [("GET", f"/guilds/{G1}", None), ("GET", f"/channels/{C1}/messages", None)]
WRITE: list[tuple[str, str, Any]] = [
    ("POST", f"/channels/{C1}/messages", {"content": "a"}),
    ("DELETE", f"/channels/{C1}/messages/{_U}", None),
    ("PUT", f"{_MEMBER}/roles/{_U}", None),
    ("PATCH", _MEMBER, {"nick": "a", "roles": [_U]}),
    ("PATCH", f"/guilds/{G1}", {"name": "a"}),
    ("POST", f"/channels/{C1}/typing", None),
]
MODERATE: list[tuple[str, str, Any]] = [
    ("DELETE", _MEMBER, None),
    ("PUT", f"/guilds/{G1}/bans/{_U}", {}),
    ("DELETE", f"/guilds/{G1}/bans/{_U}", None),
    ("POST", f"/guilds/{G1}/bulk-ban", {"user_ids": [_U]}),
    ("POST", f"/guilds/{G1}/prune", {"days": 7}),
    ("POST", f"/channels/{C1}/messages/bulk-delete", {"messages": [_U]}),
    ("POST", f"/guilds/{G1}/auto-moderation/rules", {"name": "a"}),
    ("PUT", f"/guilds/{G1}/incident-actions", {}),
    ("PATCH", f"/guilds/{G1}/voice-states/{_U}", {"suppress": True}),
    ("PATCH", _MEMBER, {"communication_disabled_until": "2030-01-01T00:00:00Z"}),
    ("PATCH", _MEMBER, {"nick": "a", "mute": True}),
    ("PATCH", _MEMBER, {"channel_id": C1}),
    ("PATCH", f"/guilds/{G1}", {"owner_id": _U}),
]
_ALLOWED = {
    RestLevel.READ_ONLY: READ,
    RestLevel.NO_MODERATION: READ + WRITE,
    RestLevel.FULL: READ + WRITE + MODERATE,
}


@pytest.mark.parametrize("level", list(RestLevel))
async def test_a_level(guard: Rig, discord: Recorder, level: RestLevel) -> None:
    guard.tenants.change("mine", level=level)
    for call in READ + WRITE + MODERATE:
        method, path, body = call
        reply = await guard.ask(method, path, json=body)
        if call in _ALLOWED[level]:
            assert reply.status in {200, 204}, call
        else:
            assert (reply.status, reply.json["code"]) == (403, 50013), call
            assert level.value in reply.json["message"]
    sent = [(each.method, each.path) for each in discord.requests if each.method != "GET"]
    assert sent == [(method, path) for method, path, _ in _ALLOWED[level] if method != "GET"]


async def test_a_form_changes_nothing_about_it(guard: Rig, discord: Recorder) -> None:
    guard.tenants.change("mine", level=RestLevel.NO_MODERATION)
    reply = await guard.ask("PATCH", _MEMBER, data={"payload_json": '{"mute": true}'})
    assert reply.status == 403
    assert discord.requests == []


async def test_read_only_changes_nothing(guard: Rig, discord: Recorder) -> None:
    """Of all operations."""
    guard.tenants.change("mine", level=RestLevel.READ_ONLY)
    for rule in Rules.load().all:
        if rule.method != "GET":
            assert rule.act != "read", rule.route
            assert not RestLevel.READ_ONLY.includes(rule.needs)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", f"/guilds/{G1}/members/{BOT}", None),
        ("PUT", f"/guilds/{G1}/bans/{BOT}", {}),
        ("POST", f"/guilds/{G1}/bulk-ban", {"user_ids": ["1", BOT]}),
        ("POST", f"/guilds/{G1}/bulk-ban", {"user_ids": [int(BOT)]}),
        ("POST", f"/guilds/{G1}/bulk-ban", {"user_ids": BOT}),
        ("DELETE", f"/guilds/{G1}/integrations/{_U}", None),
        ("DELETE", f"/users/@me/guilds/{G1}", None),
    ],
)
async def test_the_bot_stays_in_the_server(
    guard: Rig, discord: Recorder, method: str, path: str, body: Any
) -> None:
    assert (await guard.ask(method, path, json=body)).status == 403
    assert [each for each in discord.requests if each.method != "GET"] == []
