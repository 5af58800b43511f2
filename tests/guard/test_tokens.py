"""Who a call is from: the sandbox's token, or the token in the path."""

from __future__ import annotations

import pytest

from sandbox_core.models import RestLevel
from tests.guard.recorder import Recorder
from tests.guard.rig import (
    APPLICATION,
    C1,
    FOREIGN,
    G1,
    G2,
    INSIDE_TOKEN,
    REAL_TOKEN,
    W1,
    Rig,
    tenant,
)

_ID, _TOKEN = "150000000000000001", "aW50ZXJhY3Rpb246MTUw"
CALLBACK = f"/interactions/{_ID}/{_TOKEN}/callback"
FOLLOW_UP = f"/webhooks/{APPLICATION}/{_TOKEN}"


@pytest.mark.parametrize(
    "header",
    [
        "Bot other",
        "Bot ",
        "Bot",
        "mine",
        "bot mine",
        "Bearer mine",
        "Bot mine ",
        "Bot  mine",
        "Bot mine, Bot other",
        f"Bot {REAL_TOKEN}",
        "Basic bWluZQ==",
    ],
)
async def test_no_other_token_is_taken(guard: Rig, discord: Recorder, header: str) -> None:
    reply = await guard.ask("GET", f"/channels/{C1}", headers={"Authorization": header})
    if header.strip() == "Bot mine":
        # Spaces around a header's value are none of it.
        assert reply.status == 200
        return
    assert (reply.status, reply.json) == (401, {"message": "401: Unauthorized", "code": 0})
    assert discord.requests == []


async def test_without_a_token(guard: Rig, discord: Recorder) -> None:
    for path in (f"/channels/{C1}", "/users/@me", "/gateway/bot", "/oauth2/keys"):
        assert (await guard.ask("GET", path, token=None)).status == 401
    assert discord.requests == []


async def test_the_real_token_is_in_no_answer(guard: Rig, discord: Recorder) -> None:
    for path in (f"/channels/{C1}", "/users/@me", "/nowhere", f"/channels/{C1}/messages"):
        reply = await guard.ask("GET", path)
        assert REAL_TOKEN not in f"{reply.headers}{reply.body!r}"
    assert REAL_TOKEN not in repr(guard.upstream.__dict__)


@pytest.mark.parametrize("token", [None, "mine"])
async def test_an_interaction_of_the_sandbox(guard: Rig, discord: Recorder, token: str | None) -> None:
    await guard.seen.note(guard.mine, "interaction", _ID, _TOKEN, guild_id=G1)
    assert (await guard.ask("POST", CALLBACK, token=token, json={"type": 5})).status == 200
    assert (await guard.ask("POST", FOLLOW_UP, token=token, json={"content": "a"})).status == 200
    path = f"{FOLLOW_UP}/messages/@original?thread_id={C1}"
    assert (await guard.ask("PATCH", path, token=token, json={"content": "b"})).status == 200
    assert (await guard.ask("DELETE", path, token=token)).status == 204
    sent = [each for each in discord.requests if each.method != "GET"]
    assert len(sent) == 4
    assert not any("authorization" in each.headers for each in sent)


@pytest.mark.parametrize("token", [None, "mine", "others"])
async def test_an_interaction_that_was_not_seen(guard: Rig, discord: Recorder, token: str | None) -> None:
    guard.tenants.known["others"] = tenant("others", FOREIGN)
    await guard.seen.note(guard.mine, "interaction", _ID, "another-token", guild_id=G1)
    assert (await guard.ask("POST", CALLBACK, token=token, json={"type": 5})).status == 404
    assert (await guard.ask("POST", FOLLOW_UP, token=token, json={"content": "a"})).status == 404
    assert [each for each in discord.requests if each.method != "GET"] == []


async def test_another_sandboxs_interaction(guard: Rig, discord: Recorder) -> None:
    guard.tenants.known["others"] = tenant("others", FOREIGN)
    await guard.seen.note(guard.mine, "interaction", _ID, _TOKEN, guild_id=G1)
    assert (await guard.ask("POST", CALLBACK, token="others", json={"type": 5})).status == 404
    assert (await guard.ask("POST", FOLLOW_UP, token="others", json={})).status == 404
    assert [each for each in discord.requests if each.method != "GET"] == []


async def test_the_token_with_another_id(guard: Rig, discord: Recorder) -> None:
    await guard.seen.note(guard.mine, "interaction", _ID, _TOKEN, guild_id=G1)
    for token in (None, "mine"):
        other = f"/interactions/150000000000000002/{_TOKEN}/callback"
        assert (await guard.ask("POST", other, token=token, json={"type": 5})).status == 404
        # Nor is it the token of a webhook.
        assert (await guard.ask("POST", f"/webhooks/{W1}/{_TOKEN}", token=token, json={})).status == 404
    assert [each for each in discord.requests if each.method != "GET"] == []


async def test_an_interaction_of_a_server_that_was_given_back(guard: Rig, discord: Recorder) -> None:
    await guard.seen.note(guard.mine, "interaction", _ID, _TOKEN, guild_id=G1)
    guard.tenants.change("mine", guild_ids=frozenset({G2}))
    for token in (None, "mine"):
        assert (await guard.ask("POST", CALLBACK, token=token, json={"type": 5})).status == 404
    assert [each for each in discord.requests if each.method != "GET"] == []


async def test_an_interaction_of_a_sandbox_that_ended(guard: Rig, discord: Recorder) -> None:
    await guard.seen.note(guard.mine, "interaction", _ID, _TOKEN)
    guard.tenants.known.clear()
    assert (await guard.ask("POST", CALLBACK, token=None, json={"type": 5})).status == 404
    assert (await guard.ask("POST", CALLBACK, json={"type": 5})).status == 401
    assert discord.requests == []


async def test_seen_is_the_same_for_every_process(guard: Rig) -> None:
    """And Redis has no token in it."""
    await guard.seen.note(guard.mine, "interaction", _ID, _TOKEN, guild_id=G1)
    keys = await guard.redis.keys("sandbox:gateway:seen:*")
    assert len(keys) == 1
    stored = f"{keys[0]}{await guard.redis.get(keys[0])}"
    assert _TOKEN not in stored
    assert _ID not in stored
    assert 0 < await guard.redis.ttl(keys[0]) <= 900


@pytest.mark.parametrize("token", [None, "mine"])
async def test_a_webhook_of_the_sandboxs_server(guard: Rig, discord: Recorder, token: str | None) -> None:
    path = f"/webhooks/{W1}/{INSIDE_TOKEN}"
    assert (await guard.ask("POST", f"{path}?wait=true", token=token, json={"content": "a"})).status == 200
    assert [each.method for each in discord.calls(path)] == ["GET", "POST"]


async def test_a_webhook_of_a_server_that_was_given_back(guard: Rig, discord: Recorder) -> None:
    path = f"/webhooks/{W1}/{INSIDE_TOKEN}"
    assert (await guard.ask("POST", path, token=None, json={"content": "a"})).status == 200
    guard.tenants.change("mine", guild_ids=frozenset({G2}))
    discord.clear()
    for token in (None, "mine"):
        assert (await guard.ask("POST", path, token=token, json={"content": "a"})).status == 404
    assert discord.requests == []


async def test_a_level_holds_for_webhooks_as_well(guard: Rig, discord: Recorder) -> None:
    await guard.seen.note(guard.mine, "interaction", _ID, _TOKEN)
    guard.tenants.change("mine", level=RestLevel.READ_ONLY)
    for token in (None, "mine"):
        assert (await guard.ask("POST", CALLBACK, token=token, json={"type": 5})).status == 403
    assert discord.requests == []


async def test_a_server_that_leaves_while_its_channels_are_known(guard: Rig, discord: Recorder) -> None:
    assert (await guard.ask("GET", f"/channels/{C1}/pins")).status == 200
    guard.tenants.change("mine", guild_ids=frozenset({G2}))
    assert (await guard.ask("GET", f"/channels/{C1}/pins")).status == 403
    assert len(discord.calls(f"/channels/{C1}/pins")) == 1
