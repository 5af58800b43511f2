"""`sandboxctl events replay`: stored events sent again, from a shell."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.harness import eventually

from .conftest import ALICE, BOB, NOBODY_LISTENS, Shell
from .schemas import check

FIRST, SECOND, THIRD = (f"10000000000000000{number}" for number in (1, 2, 3))


@pytest.fixture
async def filled(shell: Shell) -> AsyncIterator[Shell]:
    """The sandbox `has` with three messages of its server, and `gets` with another server."""
    for name, guild in (("has", FIRST), ("gets", SECOND)):
        await shell.ok("create", name, "--owner", ALICE)
        await shell.ok("register-guild", name, guild, "--unchecked", "--yes")
    for word in ("one", "two", "three"):
        await shell.ok("events", "emit", "has", "MESSAGE_CREATE", "--set", f"d.content={word}")
    yield shell
    for name in ("has", "gets"):
        await shell.ok("destroy", name, "--yes")


async def stored(shell: Shell, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await shell.ok("events", name, "--json")).out.splitlines()]


async def replay(shell: Shell, *words: str) -> list[dict[str, Any]]:
    answer = (await shell.ok("events", "replay", *words, "--json")).json
    check("events replay", answer)
    done: list[dict[str, Any]] = answer["replayed"]
    return done


async def test_events_come_again_in_their_order_and_as_they_were(filled: Shell) -> None:
    before = await stored(filled, "has")
    done = await replay(filled, "has", "3", "1", "3", "--speed", "max")
    assert [(each["from"], each["id"]) for each in done] == [("1", "4"), ("3", "5")]
    assert [each["frame"] for each in (await stored(filled, "has"))[3:]] == [
        before[0]["frame"],
        before[2]["frame"],
    ]
    said = (await filled.ok("events", "replay", "has", "--since", "5m", "--speed", "max")).out
    # The repetitions themselves are not repeated.
    assert said == "Replayed 3 events into has: numbers 6 to 8.\n"
    after = await stored(filled, "has")
    assert {each["origin"] for each in after[3:]} == {"replayed"}
    assert len({each["message_id"] for each in after}) == 8
    said = (await filled.ok("events", "replay", "has", "--since", "5m", "--type", "TYPING_START")).out
    assert said == "There are no such events now, so nothing was replayed.\n"


async def test_another_sandbox_gets_them_in_its_own_server(filled: Shell) -> None:
    said = (await filled.ok("events", "replay", "has", "2", "--to", "gets")).out
    assert said == "Replayed 1 event into gets: number 1.\n"
    (one,) = await stored(filled, "gets")
    assert (one["guild_id"], one["frame"]["d"]["guild_id"]) == (SECOND, SECOND)
    await filled.ok("register-guild", "gets", THIRD, "--unchecked", "--yes")
    (done,) = await replay(filled, "has", "2", "--to", "gets", "--as-guild", THIRD, "--fresh")
    assert done["guild_id"] == THIRD
    assert len(await stored(filled, "has")) == 3


async def test_new_ids_and_times(filled: Shell) -> None:
    await replay(filled, "has", "--since", "5m", "--speed", "max", "--fresh", "--grep", '"(one|two)"')
    *_, old, _, first, second = (each["frame"]["d"] for each in await stored(filled, "has"))
    assert (first["content"], second["content"]) == ("one", "two")
    assert int(old["id"]) < int(first["id"]) < int(second["id"])
    assert first["timestamp"] < second["timestamp"]


async def test_events_are_changed_in_an_editor_first(filled: Shell) -> None:
    async def edit(command: str, *words: str) -> list[dict[str, Any]]:
        having = filled.having(EDITOR=command, VISUAL=None)
        return await replay(having, "has", "1", "2", "--speed", "max", "--edit", *words)

    before = await stored(filled, "has")
    done = await edit('sed -i \'s/"one"/"changed"/\'')
    assert len(done) == 2
    changed, same = (await stored(filled, "has"))[3:]
    assert changed["frame"] == before[0]["frame"] | {"d": before[0]["frame"]["d"] | {"content": "changed"}}
    assert same["frame"] == before[1]["frame"]
    assert await edit("truncate -s 0") == []
    assert await edit("sh -c 'echo [] > $0'") == []
    for command, code, said in (
        ("false", 2, "The editor ended with 1, so nothing was replayed."),
        ("no-such-editor", 2, "The editor no-such-editor can't be run"),
        ("sh -c 'echo { > $0'", 1, "SANDBOX_015: What was edited can't be used: it is no JSON"),
        (
            "sh -c 'echo {} > $0'",
            1,
            "SANDBOX_015: What was edited can't be used: it is no list of these events",
        ),
        ("sed -i s/MESSAGE_CREATE/MESSAGE_CRATE/", 1, "Did you mean MESSAGE_CREATE"),
        ("sed -i s/MESSAGE_CREATE/READY/", 1, "SANDBOX_015"),
        (f"sed -i s/{FIRST}/{SECOND}/", 1, "SANDBOX_011"),
    ):
        having = filled.having(EDITOR=command, VISUAL=None)
        ended = await having("events", "replay", "has", "1", "--edit")
        assert (ended.code, ended.out) == (code, ""), command
        assert said in ended.err, (command, ended.err)
    assert len(await stored(filled, "has")) == 5


async def test_ctrl_c_ends_a_slow_replay(filled: Shell) -> None:
    process = await filled.start("events", "replay", "has", "--since", "5m", "--speed", "0.001x")

    async def begun() -> bool:
        return len(await stored(filled, "has")) == 4

    await eventually(begun)
    process.send_signal(signal.SIGINT)
    ended = await filled.ended(process)
    assert (ended.code, ended.out) == (130, "")
    assert len(await stored(filled, "has")) == 4


async def test_what_is_refused_says_why(filled: Shell) -> None:
    for words, code, said in (
        ((), 2, "Say which"),
        (("has",), 2, "Say which"),
        (("has", "1", "--since", "5m"), 2, "Say which"),
        (("has", "1", "--type", "MESSAGE_CREATE"), 2, "Say which"),
        (("has", "1", "--speed", "fast"), 1, "SANDBOX_007"),
        (("has", "99"), 1, "SANDBOX_015: The event 99"),
        (("has", "x"), 1, "SANDBOX_015: The event x"),
        (("has", "--since", "5m", "--type", "MESSAGE_CRATE"), 1, "Did you mean MESSAGE_CREATE"),
        (("has", "--since", "soon"), 1, "SANDBOX_007"),
        (("has", "1", "--to", "nobody"), 1, "SANDBOX_004"),
        (("has", "1", "--as-guild", THIRD), 1, "SANDBOX_011"),
        (("has", "1", "--owner", BOB), 1, "SANDBOX_010: You may not read the events of"),
        (("nobody", "1"), 1, "SANDBOX_004"),
    ):
        ended = await filled("events", "replay", *words)
        assert (ended.code, ended.out) == (code, ""), (words, ended)
        assert said in ended.err, (words, ended.err)
    await filled.ok("create", "bobs", "--owner", BOB)
    refused = await filled("events", "replay", "has", "1", "--to", "bobs", "--owner", ALICE)
    assert "SANDBOX_010: You may not replay events into" in refused.err
    await filled.ok("destroy", "bobs", "--yes")
    await filled.ok("create", "bare", "--owner", ALICE)
    bare = await filled("events", "replay", "has", "1", "--to", "bare")
    assert (
        "they are of 1 server that bare has not, and it has 0 for them. sandboxctl register-guild" in bare.err
    )
    await filled.ok("destroy", "bare", "--yes")
    away = filled.having(NATS_URL=f"nats://{NOBODY_LISTENS}")
    ended = await away("events", "replay", "has", "1")
    assert (ended.code, ended.out) == (3, "")
    assert "SANDBOX_012" in ended.err
    assert len(await stored(filled, "has")) == 3
