"""`sandboxctl deadletters`: what a worker could not handle, from a shell."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import nats
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.context import SandboxContext
from tests.streams import stream_of

from .conftest import ALICE, BOB, NOBODY_LISTENS, Shell
from .schemas import check


async def _fail(context: SandboxContext) -> None:
    async with aclosing(context.events(max_deliveries=1)) as events:
        async for _ in events:
            raise ZeroDivisionError


async def _letters(shell: Shell, name: str) -> list[dict[str, Any]]:
    listing = (await shell.ok("deadletters", name, "--json")).json
    check("deadletters list", listing)
    assert listing["total"] == len(listing["letters"])
    letters: list[dict[str, Any]] = listing["letters"]
    return letters


async def test_dead_letters_are_listed_shown_replayed_and_dropped(
    shell: Shell, servers: EmbeddedServers
) -> None:
    await shell.ok("create", "letters", "--owner", ALICE)
    variables = (await shell.ok("connect", "letters", "--json")).json
    sandbox_id = variables["SANDBOX_ID"]
    subject = f"sandbox.{sandbox_id}.events.MESSAGE_CREATE"
    client = await nats.connect(servers.nats_url)
    js = client.jetstream()
    assert await _letters(shell, "letters") == []
    assert (await shell.ok("deadletters", "letters")).out == "There are no dead letters.\n"

    for number in range(3):
        await js.publish(
            subject,
            b'{"t":"MESSAGE_CREATE","s":%d,"op":0,"d":{"content":"\x1b[31m%d"}}' % (number, number),
            headers={"Nats-Msg-Id": f"session:0:{number}", "Discord-Guild-Id": "100000000000000001"},
        )
    env = {name: shell.env[name] for name in ("DATABASE_URL", "REDIS_URL", "NATS_URL")}
    async with SandboxContext.from_env(env | variables) as context:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await _fail(context)

    first, second, third = await _letters(shell, "letters")
    assert first["message_id"] == "session:0:0"
    assert (first["event"], first["subject"]) == ("MESSAGE_CREATE", subject)
    assert (first["deliveries"], first["error"], first["replayable"]) == (1, "ZeroDivisionError", True)
    table = (await shell.ok("deadletters", "letters", "list")).out.splitlines()
    assert table[0].split() == ["ID", "EVENT", "SERVER", "DELIVERIES", "ERROR", "SINCE"]
    assert table[1].split()[:2] == [first["id"], "MESSAGE_CREATE"]
    shown = (await shell.ok("deadletters", "letters", "show", first["id"], "--json")).json
    check("deadletters show", shown)
    assert '"content":"\x1b[31m0"' in shown["letter"]["payload"]
    assert "Replay" not in (await shell.ok("deadletters", "letters", "show", first["id"])).out
    status = (await shell.ok("status", "letters", "--json")).json
    assert [part["facts"]["dead_letters"] for part in status["parts"] if part["store"] == "NATS"] == [3]

    replayed = (await shell.ok("deadletters", "letters", "replay", first["id"], "--json")).json
    check("deadletters replay", replayed)
    assert replayed == {"replayed": [first["id"]], "failed": []}
    back = await js.get_last_msg(stream_of(sandbox_id), subject)
    assert back.headers is not None
    assert (back.headers["Sandbox-Origin"], back.headers["Discord-Guild-Id"]) == (
        "replayed",
        "100000000000000001",
    )
    dropped = (await shell.ok("deadletters", "letters", "drop", second["id"], "--yes", "--json")).json
    check("deadletters drop", dropped)
    assert [letter["id"] for letter in await _letters(shell, "letters")] == [third["id"]]
    assert (await shell.ok("deadletters", "letters", "replay", "--all")).out == "Replayed: 1 dead letter.\n"
    assert await _letters(shell, "letters") == []
    assert (await shell.ok("deadletters", "letters", "drop", "--all", "--yes")).out == (
        "Dropped: 0 dead letters.\n"
    )
    await shell.ok("destroy", "letters", "--yes")
    await client.close()


async def test_how_it_ends_otherwise(shell: Shell, servers: EmbeddedServers) -> None:
    await shell.ok("create", "letterless", "--owner", ALICE)
    for arguments, code, text in (
        (("letterless", "show"), 2, "Say which"),
        (("letterless", "list", "5"), 2, "list takes no ID"),
        (("letterless", "replay"), 2, "Say which"),
        (("letterless", "replay", "5", "--all"), 2, "Say which"),
        (("letterless", "burn"), 2, "burn"),
        (("letterless", "drop", "--all"), 2, "--yes"),
        (("letterless", "show", "5"), 1, "SANDBOX_007"),
        (("letterless", "replay", "x"), 1, "SANDBOX_007"),
        (("letterless", "--owner", BOB), 1, "SANDBOX_010"),
        (("nobody",), 1, "SANDBOX_004"),
    ):
        ended = await shell("deadletters", *arguments)
        assert (ended.code, ended.out) == (code, ""), arguments
        assert text in ended.err
    away = await shell.having(NATS_URL=f"nats://{NOBODY_LISTENS}")("deadletters", "letterless", "--json")
    assert (away.code, away.out) == (3, "")
    assert "SANDBOX_012" in away.err
    await shell.ok("destroy", "letterless", "--yes")
