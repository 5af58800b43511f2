"""What operators see of the guard: words of ours as labels, and each of them from the start."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sandbox_gateway.guard.metrics import TOO_MANY, UNAVAILABLE
from sandbox_gateway.metrics import LastMinute
from tests.guard.recorder import Answer, Recorder
from tests.guard.rig import C1, C_FOREIGN, FOREIGN_TOKEN, G1, PLENTY, W_FOREIGN, Rig, rig


def labelled(guard: Rig, name: str) -> Mapping[str, float]:
    """The samples of a counter with one label, by its value."""
    return {
        next(iter(sample.labels.values())): sample.value
        for family in guard.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def value(guard: Rig, name: str) -> float:
    """A sample without labels."""
    found = guard.registry.get_sample_value(name)
    assert found is not None
    return found


async def test_every_series_is_there_from_the_start(guard: Rig) -> None:
    refused = labelled(guard, "sandbox_client_rest_refused_total")
    assert refused == dict.fromkeys((*UNAVAILABLE, *TOO_MANY), 0)
    for name in ("rest_answered", "upstream_answers", "upstream_stops"):
        found = labelled(guard, f"sandbox_client_{name}_total")
        assert len(found) >= 2
        assert set(found.values()) == {0}
    for name in ("share_used_ratio", "records_lost", "commands_unwritten"):
        assert value(guard, f"sandbox_client_{name}") == 0


async def test_labels_are_words_of_ours_whatever_is_sent(guard: Rig) -> None:
    for number in range(5):
        await guard.ask("GET", f"/nowhere-{number}")
        await guard.ask("LOCK", f"/users/{number}")
        await guard.ask("GET", "/users/@me", token=f"token-{number}")
        await guard.ask("POST", f"/channels/{C_FOREIGN}/messages", json={"content": f"{number}"})
        await guard.ask("POST", f"/channels/{C1}/messages", data=b"{", headers={"Content-Type": "x/y"})
        await guard.ask("PATCH", "/users/@me", json={"username": f"{number}"})
        await guard.ask("POST", f"/webhooks/{W_FOREIGN}/{FOREIGN_TOKEN}", token=None, json={"content": "x"})
    counted = {
        each for each, number in labelled(guard, "sandbox_client_rest_refused_total").items() if number
    }
    assert counted == {
        "unknown_route",
        "token",
        "foreign_place",
        "content_type",
        "never",
        "token_not_seen",
    }


@pytest.mark.parametrize(
    ("status", "label"),
    [(200, "2xx"), (302, "3xx"), (404, "4xx"), (403, "403"), (429, "429"), (401, "401"), (500, "5xx")],
)
async def test_discords_answers_are_counted_by_status(
    guard: Rig, discord: Recorder, status: int, label: str
) -> None:
    discord.answers["GET", f"/guilds/{G1}"] = Answer(status)
    await guard.ask("GET", f"/guilds/{G1}")
    found = labelled(guard, "sandbox_client_upstream_answers_total")
    assert found[label] == 1
    assert sum(found.values()) == 1


async def test_a_webhooks_wrong_token_says_nothing_of_the_real_one(guard: Rig, discord: Recorder) -> None:
    guard.places.learn(G1, [C1])
    await guard.seen.note(guard.mine, "webhook", "1", "gone")
    discord.answers["POST", "/webhooks/120000000000000005/gone"] = Answer(401)
    await guard.ask("POST", "/webhooks/120000000000000005/gone", token=None, json={"content": "x"})
    assert labelled(guard, "sandbox_client_upstream_answers_total")["401"] == 0


async def test_a_discord_that_is_away(redis_url: str) -> None:
    async with rig("http://127.0.0.1:9", redis_url) as guard:
        assert (await guard.ask("GET", f"/guilds/{G1}")).status == 503
        assert labelled(guard, "sandbox_client_upstream_answers_total")["away"] == 1
        assert labelled(guard, "sandbox_client_rest_refused_total")["discord_away"] == 1


async def test_what_stops_all_has_its_reason(discord: Recorder, redis_url: str) -> None:
    async with rig(discord.base, redis_url) as guard:
        discord.answers["GET", f"/guilds/{G1}"] = Answer(
            429,
            {"message": "You are being rate limited.", "retry_after": 0.01, "global": True},
            {"Content-Type": "application/json", "X-RateLimit-Global": "true"},
        )
        await guard.ask("GET", f"/guilds/{G1}")
        assert labelled(guard, "sandbox_client_upstream_stops_total") == {
            "global_limit": 1,
            "address_blocked": 0,
        }


async def test_cloudflares_page_is_a_blocked_address(discord: Recorder, redis_url: str) -> None:
    async with rig(discord.base, redis_url) as guard:
        discord.answers["GET", f"/guilds/{G1}"] = Answer(
            403, b"<html>Error 1020</html>", {"Content-Type": "text/html", "Retry-After": "0.01"}
        )
        await guard.ask("GET", f"/guilds/{G1}")
        assert labelled(guard, "sandbox_client_upstream_stops_total")["address_blocked"] == 1


async def test_the_share_that_is_used(discord: Recorder, redis_url: str) -> None:
    limits = type(PLENTY)(all_sandboxes=1, each=1000, longest_wait=0.0)
    async with rig(discord.base, redis_url, limits=limits) as guard:
        answered = 0
        for _ in range(5):
            answered += (await guard.ask("GET", f"/guilds/{G1}")).status == 200
        assert value(guard, "sandbox_client_share_used_ratio") == pytest.approx(answered / 60)
        assert labelled(guard, "sandbox_client_rest_refused_total")["share_of_all"] == 5 - answered > 0


def test_a_minute_ends() -> None:
    now = 100.5
    minute = LastMinute(lambda: now)
    for _ in range(3):
        minute.note()
    now = 130.0
    minute.note()
    assert minute.count == 4
    now = 161.0
    assert minute.count == 1
    for second in range(200, 400):
        now = float(second)
        minute.note()
    assert minute.count == 60
    now = 1000.0
    assert minute.count == 0
