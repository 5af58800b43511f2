"""What is answered here, or asked and answered otherwise, for a sandbox."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from sandbox_gateway.guard.rules import Rules
from tests.guard.recorder import Answer, Recorder, Request
from tests.guard.rig import APPLICATION, FOREIGN, G1, G2, Rig, tenant


class Guilds(Recorder):
    """A bot in three thousand guilds."""

    ids = tuple(str(100_000_000_000_000_000 + 7 * number) for number in range(3000))

    def _answer(self, request: Request) -> Answer:
        if request.path != "/users/@me/guilds":
            return super()._answer(request)
        query = {name: values[0] for name, values in parse_qs(request.query).items()}
        later = [each for each in self.ids if int(each) > int(query.get("after", 0))]
        found: list[Any] = [{"id": each, "name": "g"} for each in later[: int(query["limit"])]]
        for each in found if query.get("with_counts") else ():
            each["approximate_member_count"] = 3
        return Answer(200, found)


@pytest.fixture
async def many(discord: Recorder) -> Recorder:
    """Let the bot be in thousands of guilds."""
    discord.__class__ = Guilds
    return discord


async def test_only_the_sandboxs_guilds_are_listed(guard: Rig, many: Recorder) -> None:
    mine = sorted(Guilds.ids[number] for number in (3, 4, 700, 2999))
    guard.tenants.known["mine"] = tenant("mine", *mine, FOREIGN)
    reply = await guard.ask("GET", "/users/@me/guilds?with_counts=true")
    assert [each["id"] for each in reply.json] == mine
    assert all(each["approximate_member_count"] == 3 for each in reply.json)
    assert len(many.calls("/users/@me/guilds")) <= len(mine) + 1


async def test_pages_of_guilds(guard: Rig, many: Recorder) -> None:
    mine = [Guilds.ids[number] for number in range(0, 3000, 100)]
    guard.tenants.known["mine"] = tenant("mine", *mine)

    async def page(query: str) -> list[str]:
        return [each["id"] for each in (await guard.ask("GET", f"/users/@me/guilds?{query}")).json]

    assert await page("limit=2") == mine[:2]
    assert await page(f"limit=2&after={mine[4]}") == mine[5:7]
    assert await page(f"limit=2&before={mine[4]}") == mine[2:4]
    assert await page(f"after={mine[-1]}") == []
    assert (await guard.ask("GET", "/users/@me/guilds?limit=0")).status == 400


async def test_the_gateways_address_is_ours(guard: Rig, discord: Recorder) -> None:
    ours = "ws://gateway.sandboxes"
    assert (await guard.ask("GET", "/gateway", token=None)).json == {"url": ours}
    reply = await guard.ask("GET", "/gateway/bot")
    assert reply.json["url"] == ours
    assert reply.json["shards"] == 1
    assert set(reply.json["session_start_limit"]) == {"total", "remaining", "reset_after", "max_concurrency"}
    assert (await guard.ask("GET", "/gateway/bot", token=None)).status == 401
    assert (await guard.ask("GET", "/users/@me/channels")).json == []
    assert discord.requests == []


@pytest.mark.parametrize(
    "path", ["/applications/@me", f"/applications/{APPLICATION}", "/oauth2/applications/@me"]
)
async def test_the_application_is_in_the_sandboxs_servers_only(guard: Rig, path: str) -> None:
    assert (await guard.ask("GET", path)).json == {
        "id": APPLICATION,
        "name": "bot",
        "approximate_guild_count": 2,
    }


async def test_what_is_common_is_asked_for_once(guard: Rig, discord: Recorder) -> None:
    for rule in Rules.load().all:
        if rule.decision != "common":
            continue
        values = dict.fromkeys(rule.template.parameters, "130000000000000001")
        if "application_id" in values:
            values["application_id"] = APPLICATION
        path = rule.template.path(values)
        for _ in range(3):
            assert (await guard.ask("GET", path)).status == 200
        assert len(discord.calls(path)) == 1


async def test_another_application_is_not_shown(guard: Rig, discord: Recorder) -> None:
    assert (await guard.ask("GET", "/applications/300000000000000009")).status == 403


async def test_entitlements_are_those_of_one_server(guard: Rig, discord: Recorder) -> None:
    path = f"/applications/{APPLICATION}/entitlements"
    assert (await guard.ask("GET", f"{path}?guild_id={G2}&limit=3")).status == 200
    assert discord.calls(path)[-1].query == f"guild_id={G2}&limit=3"
    discord.clear()
    for query in (
        "",
        f"?guild_id={FOREIGN}",
        f"?guild_id={G1}&guild_id={FOREIGN}",
        f"?guild_id={G1}&guild_id={G2}",
    ):
        assert (await guard.ask("GET", path + query)).status in {400, 403}
    assert discord.calls(path) == []
    guard.tenants.known["mine"] = tenant("mine", G2)
    assert (await guard.ask("GET", path)).status == 200
    assert discord.calls(path)[-1].query == f"guild_id={G2}"
