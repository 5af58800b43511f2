"""`sandboxctl events`: a sandbox's events, seen from a shell."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from discord_sim import DiscordSim

from .conftest import ALICE, BOB, GUILD, Shell


@pytest.fixture
async def sandboxed(shell: Shell) -> AsyncIterator[Shell]:
    """The sandbox `sees` with three events of a real server, as the simulator names it."""
    async with DiscordSim() as sim:
        sim.add_guild("Cooks", id=int(GUILD))
        talking = shell.having(DISCORD_TOKEN=sim.token, DISCORD_API_URL=sim.api_url)
        await talking.ok("create", "sees", "--owner", ALICE)
        await talking.ok("register-guild", "sees", GUILD, "--yes")
        for word in ("first", "second", "third"):
            await talking.ok("events", "emit", "sees", "MESSAGE_CREATE", "--set", f"d.content={word} words")
        await talking.ok("events", "emit", "sees", "GUILD_ROLE_CREATE")
        yield talking
        await talking.ok("destroy", "sees", "--yes")


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_the_last_events_are_one_line_each(sandboxed: Shell) -> None:
    shown = (await sandboxed.ok("events", "sees")).out.splitlines()
    assert len(shown) == 4
    for line, word in zip(shown, ("first", "second", "third"), strict=False):
        assert "MESSAGE_CREATE  Cooks #" in line
        assert f":  {word} words  " in line
    assert "GUILD_ROLE_CREATE  Cooks" in shown[3]


async def test_a_new_sandbox_has_none(shell: Shell) -> None:
    await shell.ok("create", "fresh", "--owner", ALICE)
    assert (await shell.ok("events", "fresh")).out == "There are no such events now.\n"
    assert (await shell.ok("events", "fresh", "--json", "--since", "10m")).out == ""
    assert "there is none with this number now" in (await shell("events", "show", "fresh", "1")).err
    await shell.ok("destroy", "fresh", "--yes")


async def test_filters_take_what_was_asked_for(sandboxed: Shell) -> None:
    async def contents(*words: str) -> list[str]:
        found = _lines((await sandboxed.ok("events", "sees", "--json", *words)).out)
        return [each["frame"]["d"].get("content", each["type"]) for each in found]

    everything = ["first words", "second words", "third words", "GUILD_ROLE_CREATE"]
    assert await contents() == everything
    assert await contents("--limit", "2") == everything[2:]
    assert await contents("--type", "message_create", "--limit", "1") == ["third words"]
    assert await contents("--grep", "sec.nd words") == ["second words"]
    assert await contents("--since", "10m", "--guild", GUILD) == everything
    assert await contents("--guild", "100000000000000009") == []
    (one, *_) = _lines((await sandboxed.ok("events", "sees", "--json")).out)
    assert await contents("--user", one["user_id"], "--channel", one["channel_id"]) == everything[:3]


async def test_one_event_is_shown_whole_and_raw(sandboxed: Shell) -> None:
    (one, *_) = _lines((await sandboxed.ok("events", "sees", "--json")).out)
    shown = (await sandboxed.ok("events", "show", "sees", one["id"])).out
    assert f"{one['message_id']}\n" in shown
    assert '"content": "first words"' in shown
    raw = (await sandboxed.ok("events", "show", "sees", one["id"], "--raw")).out
    assert json.loads(raw) == one["frame"]
    assert len(raw.encode()) == one["bytes"] + 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("events", "sees", "--type", "MESSAGE_CRATE"), "SANDBOX_015", "Did you mean MESSAGE_CREATE"),
        (("events", "sees", "--grep", "("), "SANDBOX_015", "it is no regular expression"),
        (("events", "sees", "--user", "me"), "SANDBOX_007", "17 to 20 digits"),
        (("events", "show", "sees", "999999"), "SANDBOX_015", "there is none with this number now"),
        (("events", "show", "sees", "x"), "SANDBOX_015", "there is none with this number now"),
        (("events", "nobody"), "SANDBOX_004", "nobody"),
        (("events", "sees", "--owner", BOB), "SANDBOX_010", "read the events of"),
        (("events", "--production", "--owner", ALICE), "SANDBOX_010", "read the events of production"),
    ],
)
async def test_what_is_refused_says_why(
    sandboxed: Shell, words: tuple[str, ...], code: str, said: str
) -> None:
    refused = await sandboxed(*words)
    assert refused.code != 0
    assert refused.err.startswith(f"{code}: ")
    assert said in refused.err


async def test_whoever_looks_takes_nothing_from_the_workers(sandboxed: Shell) -> None:
    await sandboxed.ok("events", "sees")
    status = (await sandboxed.ok("status", "sees", "--json")).json
    (nats,) = [part for part in status["parts"] if part["store"] == "NATS"]
    assert nats["facts"]["messages"] == 4
    assert nats["facts"].get("consumers", 0) == 0


async def test_following_ends_with_the_sandbox_or_with_the_right_to_look(shell: Shell) -> None:
    await shell.ok("create", "ends", "--owner", ALICE)
    await shell.ok("register-guild", "ends", GUILD, "--unchecked", "--yes")
    await shell.ok("events", "emit", "ends", "TYPING_START")
    await shell.ok("share", "ends", BOB, "--unchecked")
    colleague = await shell.start("events", "ends", "--follow", "--owner", BOB)
    owner = await shell.start("events", "ends", "--follow")
    for process in (colleague, owner):
        assert process.stdout is not None
        assert b"TYPING_START" in await process.stdout.readline()
    await shell.ok("unshare", "ends", BOB)
    ended = await shell.ended(colleague)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("SANDBOX_010: ")
    assert owner.returncode is None
    await shell.ok("destroy", "ends", "--yes")
    ended = await shell.ended(owner)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("SANDBOX_00")
