"""The table of rules against Discord's own description, and every rule with an id inside and one outside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_gateway.guard.ids import _CHANNELS, _GUILDS, QUERY_IDS
from sandbox_gateway.guard.rules import Rule, Rules
from tests.guard.conftest import furnish
from tests.guard.recorder import Answer, Recorder, recorder
from tests.guard.rig import (
    APPLICATION,
    C1,
    C2,
    C_DM,
    C_FOREIGN,
    C_GONE,
    FOREIGN,
    FOREIGN_TOKEN,
    G1,
    INSIDE_TOKEN,
    INVITE,
    INVITE_FOREIGN,
    W1,
    W_FOREIGN,
    Rig,
    rig,
)
from tests.sim.openapi import spec_path

_DESCRIBED = json.loads((Path(__file__).parent / "described.json").read_text())
"""What Discord's description says of operations and of the names of fields, and of ids in queries."""
_DESCRIPTION = spec_path()
_REDIS_DATABASE = "/59"
_OTHER = "130000000000000001"
_RULES = Rules.load()

_INSIDE = {
    "application_id": APPLICATION,
    "guild_id": G1,
    "channel_id": C1,
    "webhook_id": W1,
    "webhook_token": INSIDE_TOKEN,
    "interaction_token": "interaction-token",
    "code": INVITE,
    "emoji_name": "%F0%9F%91%8D",
    "answer_id": "1",
    "instance_id": f"i-{_OTHER}-gc-{G1}-{C1}",
}
_OUTSIDE = {
    "guild": [{"guild_id": FOREIGN}],
    "channel": [{"channel_id": C_FOREIGN}, {"channel_id": C_DM}, {"channel_id": C_GONE}],
    "invite": [{"code": INVITE_FOREIGN}, {"code": "nosuch"}],
    "template": [{"guild_id": FOREIGN}, {"code": INVITE_FOREIGN}, {"code": "nosuch"}],
    "webhook": [{"webhook_id": W_FOREIGN}, {"webhook_id": _OTHER}],
    "webhook_token": [
        {"webhook_id": W_FOREIGN, "webhook_token": FOREIGN_TOKEN},
        {"webhook_id": W1, "webhook_token": "wrong"},
        {"webhook_id": APPLICATION, "webhook_token": "never-seen"},
    ],
    "interaction": [{"interaction_token": "never-seen"}, {"interaction_id": "130000000000000002"}],
    "activity": [
        {"instance_id": f"i-{_OTHER}-gc-{FOREIGN}-{C1}"},
        {"instance_id": f"i-{_OTHER}-gc-{G1}-{C_FOREIGN}"},
        {"application_id": _OTHER},
    ],
}
_BODIES: dict[str, Any] = {
    "follow_channel": {"webhook_channel_id": C2},
    "create_stage_instance": {"channel_id": C1, "topic": "x"},
    "update_guild_member": {"nick": "x"},
}
_LOOK_UPS = (
    *(f"/channels/{each}" for each in (C1, C2, C_FOREIGN, C_DM, C_GONE)),
    *(f"/invites/{each}" for each in (INVITE, INVITE_FOREIGN, "nosuch")),
    *(f"/guilds/templates/{each}" for each in (INVITE, INVITE_FOREIGN, "nosuch")),
    *(f"/webhooks/{each}" for each in (W1, W_FOREIGN, _OTHER)),
    *(f"/webhooks/{W_FOREIGN}/{FOREIGN_TOKEN}", f"/webhooks/{W1}/wrong", f"/webhooks/{W1}/{INSIDE_TOKEN}"),
    *(f"/webhooks/{APPLICATION}/never-seen", "/oauth2/applications/@me", "/users/@me"),
)


def _rules(*decisions: str) -> list[Any]:
    return [pytest.param(rule, id=rule.route) for rule in _RULES.all if rule.decision in decisions]


def _path(rule: Rule, **other: str) -> str:
    values = {name: {**_INSIDE, **other}.get(name, _OTHER) for name in rule.template.parameters}
    return rule.template.path(values)


async def _call(guard: Rig, rule: Rule, **other: str) -> Any:
    body = None if rule.method in {"GET", "DELETE"} else _BODIES.get(rule.operation, {})
    return await guard.ask(rule.method, _path(rule, **other), json=body)


def _forwarded(discord: Recorder) -> list[str]:
    """Return what came to Discord besides the guard's own questions."""
    return [f"{each.method} {each.path}" for each in discord.requests if each.path not in _LOOK_UPS]


@pytest.fixture(scope="module")
async def world(servers: EmbeddedServers) -> AsyncIterator[tuple[Recorder, Rig]]:
    """One guard for hundreds of tests."""
    redis_url = urlunsplit(urlsplit(servers.redis_url)._replace(path=_REDIS_DATABASE))
    async with recorder() as discord, rig(discord.base, redis_url) as guard:
        await guard.redis.flushdb()
        furnish(discord)
        yield discord, guard


@pytest.fixture
def discord(world: tuple[Recorder, Rig]) -> Recorder:
    """The Discord behind the guard, with nothing noted."""
    world[0].clear()
    return world[0]


@pytest.fixture
def guard(world: tuple[Recorder, Rig]) -> Rig:
    """The guard in front of it."""
    world[1].commands.calls.clear()
    return world[1]


@pytest.fixture
async def seen(guard: Rig) -> None:
    """The sandbox's events had an interaction."""
    await guard.seen.note(guard.mine, "interaction", _OTHER, "interaction-token", guild_id=G1)


def test_every_operation_has_one_rule() -> None:
    described = {tuple(each) for each in _DESCRIBED["operations"]}
    rules = [(rule.method, rule.template.text, rule.operation) for rule in _RULES.all]
    assert len(described) == 242
    assert described <= set(rules)
    assert len({rule[:2] for rule in rules}) == len(rules)
    assert all(rule in described for rule in rules if rule[2])


def test_every_place_in_a_body_of_the_description_is_looked_at() -> None:
    """A field of the description that names a guild or a channel is one that the guard finds by its name."""
    places = {name for name in _DESCRIBED["fields"] if "guild" in name or "channel" in name}
    not_ids = {name for name in places if not (_CHANNELS.match(name) or _GUILDS.match(name))}
    # Kinds, flags and whole objects, which have their own ids.
    assert {name for name in not_ids if name.endswith(("_id", "_ids"))} == {
        "guild_scheduled_event_id",
        "guild_scheduled_event_exception_id",
    } & not_ids


def test_every_name_of_a_query_may_be_used() -> None:
    named = {name for name in _DESCRIBED["queries"] if not (_CHANNELS.match(name) or _GUILDS.match(name))}
    assert named <= QUERY_IDS


@pytest.mark.skipif(_DESCRIPTION is None, reason="Discord's whole description is not in this checkout")
def test_the_extract_is_of_the_description() -> None:
    assert _DESCRIPTION is not None
    description = json.loads(_DESCRIPTION.read_text())
    operations = [
        [method.upper(), path, operation["operationId"]]
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
        if method in {"get", "put", "post", "patch", "delete"}
    ]
    assert sorted(operations) == _DESCRIBED["operations"]
    assert sorted(_fields(description)) == _DESCRIBED["fields"]


def _fields(node: Any) -> set[str]:
    found: set[str] = set()
    if isinstance(node, dict):
        found |= set(node.get("properties", {}) if isinstance(node.get("properties"), dict) else ())
        for value in node.values():
            found |= _fields(value)
    elif isinstance(node, list):
        for value in node:
            found |= _fields(value)
    return found


@pytest.mark.parametrize(
    "rule",
    _rules(
        "guild",
        "channel",
        "body",
        "invite",
        "template",
        "webhook",
        "webhook_token",
        "interaction",
        "activity",
    ),
)
@pytest.mark.usefixtures("seen")
async def test_inside_it_comes_to_discord(guard: Rig, discord: Recorder, rule: Rule) -> None:
    reply = await _call(guard, rule)
    assert reply.status in {200, 204}, reply.body
    last = discord.requests[-1]
    assert (last.method, last.path) == (rule.method, _path(rule))
    # A webhook's, and an interaction's, own token is what Discord goes by.
    assert ("authorization" in last.headers) is not rule.has_own_token


@pytest.mark.parametrize(
    "rule",
    _rules("guild", "channel", "invite", "template", "webhook", "webhook_token", "interaction", "activity"),
)
@pytest.mark.usefixtures("seen")
async def test_outside_it_does_not(guard: Rig, discord: Recorder, rule: Rule) -> None:
    for outside in _OUTSIDE[rule.decision]:
        reply = await _call(guard, rule, **outside)
        assert reply.status in {403, 404}, (outside, reply.body)
        assert set(reply.json) == {"message", "code"}
        assert reply.headers["Content-Type"] == "application/json"
        # A rule whose path is the look-up's is answered by none of it.
        assert _forwarded(discord) == []


@pytest.mark.parametrize("rule", _rules("refuse"))
async def test_what_no_sandbox_may_do(guard: Rig, discord: Recorder, rule: Rule) -> None:
    reply = await _call(guard, rule)
    assert (reply.status, reply.json["code"]) == (403, 50013)
    assert discord.requests == []


@pytest.mark.parametrize("rule", _rules("commands"))
async def test_calls_about_commands_go_to_their_own_part(guard: Rig, discord: Recorder, rule: Rule) -> None:
    assert (await _call(guard, rule)).json == {"noted": rule.operation}
    assert (await _call(guard, rule, application_id=_OTHER)).status == 403
    if "guild_id" in rule.template.parameters:
        assert (await _call(guard, rule, guild_id=FOREIGN)).status == 403
    assert len(guard.commands.calls) == 1
    assert _forwarded(discord) == []


@pytest.mark.parametrize("rule", _rules("allow"))
async def test_what_is_the_same_for_all(guard: Rig, discord: Recorder, rule: Rule) -> None:
    assert (await _call(guard, rule)).status == 200
    assert _path(rule) in [each.path for each in discord.requests]
    if "application_id" in rule.template.parameters:
        discord.clear()
        assert (await _call(guard, rule, application_id=_OTHER)).status == 403
        assert discord.requests == []


@pytest.mark.parametrize("rule", _rules("response"))
async def test_what_the_answer_decides(guard: Rig, discord: Recorder, rule: Rule) -> None:
    path = _path(rule, code="somewhere")
    for guild_id, status in ((G1, 200), (FOREIGN, 403), (None, 200 if rule.note.endswith("?") else 403)):
        value: Any = guild_id
        for name in reversed(rule.note.removesuffix("?").split(".")):
            value = {name: value}
        discord.answers["GET", path] = Answer(200, {**value, "secret": "s3cr3t"})
        reply = await guard.ask("GET", path)
        assert reply.status == status
        assert (b"s3cr3t" in reply.body) is (status == 200)


def test_every_rule_has_a_test() -> None:
    tested = {
        *(
            "guild",
            "channel",
            "body",
            "invite",
            "template",
            "webhook",
            "webhook_token",
            "interaction",
            "activity",
        ),
        *("refuse", "commands", "allow", "response"),
        # In test_rewrites.py.
        *("answer", "common", "rewrite"),
    }
    assert {rule.decision for rule in _RULES.all} == tested
