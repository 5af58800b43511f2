"""`production-token`, and `exec`, `calls` and `sessions` for production's own bot."""

from __future__ import annotations

import json

import pytest

from discord_sim import DiscordSim
from sandbox_core.client_endpoint import PRODUCTION
from sandbox_gateway.calls import CallRecord

from .conftest import ALICE, BOB, Shell
from .schemas import check
from .test_calls import _record

KEY = "k" * 40


@pytest.fixture
def owners(shell: Shell) -> Shell:
    """A shell with the key for tokens, and an owner of the bot."""
    return shell.having(
        SANDBOX_CREDENTIALS_KEY=KEY, DISCORD_OWNER_IDS=ALICE, SANDBOX_GATEWAY_URL="http://sandboxes:9470"
    )


async def test_it_is_made_shown_rotated_and_revoked(owners: Shell) -> None:
    first = await owners.ok("production-token")
    assert first.out.splitlines()[1:] == [
        "export DISCORD_API_URL=http://sandboxes:9470/production/api/v10",
        "export DISCORD_GATEWAY_URL=ws://sandboxes:9470/",
    ]
    again = await owners.ok("production-token", "--json", "--owner", ALICE)
    check("production-token", again.json)
    assert f"export DISCORD_TOKEN={again.json['DISCORD_TOKEN']}" in first.out
    user, word, secret = again.json["DISCORD_TOKEN"].split(".")
    assert (word, len(secret)) == ("production", 43)
    rotated = await owners.ok("production-token", "--rotate", "--format", "dotenv")
    assert f"DISCORD_TOKEN={user}.production." in rotated.out
    assert secret not in rotated.out
    check(
        "production-token --revoke", (await owners.ok("production-token", "--revoke", "--yes", "--json")).json
    )
    assert "no valid token" in (await owners.ok("production-token", "--revoke", "--yes")).out
    audited = (await owners.ok("audit", "--production", "--json")).json
    check("audit", audited)
    assert [each["details"]["what"] for each in audited["entries"][-3:]] == ["made", "rotated", "revoked"]
    later = await owners.ok("production-token", "--json")
    assert later.json["DISCORD_TOKEN"] not in rotated.out + first.out


async def test_only_the_bots_owner_has_it(owners: Shell) -> None:
    for words in (
        ("production-token",),
        ("production-token", "--rotate"),
        ("production-token", "--revoke", "--yes"),
        ("calls", "--production"),
        ("sessions", "--production"),
        ("exec", "--production", "--owner", BOB, "--", "true"),
    ):
        more = () if words[0] == "exec" else ("--owner", BOB)
        ended = await owners(*words, *more)
        assert ended.code == 1
        assert ended.err.startswith("SANDBOX_010: ")
        assert ended.out == ""


async def test_what_is_wrong_is_said(owners: Shell, shell: Shell) -> None:
    keyless = await shell("production-token")
    assert (keyless.code, keyless.out) == (2, "")
    assert "SANDBOX_CREDENTIALS_KEY is not set" in keyless.err
    assert (await owners("production-token", "--rotate", "--revoke", "--yes")).code == 2
    await owners("production-token")
    other = await owners.having(SANDBOX_CREDENTIALS_KEY="o" * 40)("production-token")
    assert (other.code, other.out) == (1, "")
    assert "SANDBOX_013" in other.err
    assert "--rotate" in other.err
    for words in (("calls",), ("calls", "x", "--production"), ("exec", "x")):
        assert (await owners(*words)).code == 2


async def test_a_shell_with_its_token_is_told_apart(owners: Shell) -> None:
    variables = json.loads((await owners("production-token", "--json")).out)
    ended = await owners.having(DISCORD_TOKEN=variables["DISCORD_TOKEN"])("list")
    assert (ended.code, ended.out) == (2, "")
    assert "`sandboxctl production-token` prints" in ended.err
    assert variables["DISCORD_TOKEN"] not in ended.err


async def test_a_bot_in_too_many_servers_is_told(owners: Shell) -> None:
    async with DiscordSim() as sim:
        inside = owners.having(DISCORD_TOKEN=sim.token, DISCORD_API_URL=sim.api_url)
        for number in range(100):
            sim.add_guild(f"guild-{number}")
        assert "servers" not in (await inside("production-token")).err
        sim.add_guild("one-too-many")
        assert "The bot is in 101 servers; 100 are the most" in (await inside("production-token")).err


async def test_exec_and_the_rings(owners: Shell) -> None:
    variables = json.loads((await owners("production-token", "--json")).out)
    show = 'printf "%s %s %s" "$DISCORD_TOKEN" "$MY_TOKEN" "$DISCORD_API_URL"; exit 7'
    words = ("exec", "--production", "--token-variable", "MY_TOKEN", "--", "sh", "-c", show)
    ended = await owners(*words)
    token = variables["DISCORD_TOKEN"]
    assert (ended.code, ended.out) == (7, f"{token} {token} http://sandboxes:9470/production/api/v10")
    assert "no server" not in ended.err
    await _record(owners, str(PRODUCTION), CallRecord(1_800_000_000.0, "GET", "/users/@me", 200, "", 1.5))
    found = (await owners.ok("calls", "--production", "--json")).json
    check("calls", found)
    assert [each["route"] for each in found["calls"]] == ["/users/@me"]
    assert "no sessions" in (await owners.ok("sessions", "--production")).out
