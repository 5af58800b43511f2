"""Which direct messages are the owner's commands, read from text and from frames alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox_core.events import OWNER_COMMANDS, OwnerCommand, read_frame, read_owner_command
from sandbox_core.models import Route
from sandbox_core.routing import HANDLED, PRODUCTION, RouteTable, decide, sandbox_destination

OWNER, OTHER = "813625648685547541", "913625648685547541"
GUILD = "413625648685547541"
OWNERS = frozenset({OWNER})
SANDBOX = "3f2a9c01-7b1c-4b7e-9d55-0d3f0a1b2c3d"
TABLE = RouteTable({GUILD: Route(SANDBOX, 1000.0)})

COMMANDS = {
    "help": OwnerCommand("help"),
    "List": OwnerCommand("list"),
    "  HEALTH\n": OwnerCommand("health"),
    "status": OwnerCommand("status"),
    "status my-box": OwnerCommand("status", ("my-box",)),
    "destroy": OwnerCommand("destroy"),
    "destroy my-box  yes": OwnerCommand("destroy", ("my-box", "yes")),
    "extend my-box 2 days": OwnerCommand("extend", ("my-box", "2", "days")),
    "audit My-Box": OwnerCommand("audit", ("My-Box",)),
    "orphans fix": OwnerCommand("orphans", ("fix",)),
    "orphans fix unknown": OwnerCommand("orphans", ("fix", "unknown")),
}
NO_COMMANDS = [
    "",
    "   ",
    "hello",
    "!list",
    "/list",
    "list of guests",
    "help me",
    "please list",
    "lists",
    "destroy all the old ones",
    "extend the deadline by two days",
    "list\nof\nguests",
    "x" * 2000,
    "list " * 400,
]


def message(content: Any = "list", author: Any = OWNER, **more: Any) -> bytes:
    data = {"content": content, "author": {"id": author, "username": "root"}, **more}
    return json.dumps({"t": "MESSAGE_CREATE", "s": 1, "op": 0, "d": data}).encode()


@pytest.mark.parametrize(("content", "command"), COMMANDS.items())
def test_an_owners_command(content: str, command: OwnerCommand) -> None:
    assert read_owner_command(OWNER, content, OWNERS) == command
    frame = read_frame(message(content), 0.0, OWNERS)
    assert frame.is_owner_command
    assert decide(frame, TABLE, 0.0) is HANDLED


@pytest.mark.parametrize("content", NO_COMMANDS)
def test_what_else_an_owner_says_is_productions(content: str) -> None:
    assert read_owner_command(OWNER, content, OWNERS) is None
    frame = read_frame(message(content), 0.0, OWNERS)
    assert not frame.is_owner_command
    assert decide(frame, TABLE, 0.0) is PRODUCTION


@pytest.mark.parametrize("word", OWNER_COMMANDS)
def test_every_command_is_read_alone_and_is_nobody_elses(word: str) -> None:
    assert read_owner_command(OWNER, word, OWNERS) == OwnerCommand(word)
    assert read_owner_command(OTHER, word, OWNERS) is None
    assert decide(read_frame(message(word, OTHER), 0.0, OWNERS), TABLE, 0.0) is PRODUCTION
    assert decide(read_frame(message(word), 0.0), TABLE, 0.0) is PRODUCTION


def test_in_a_guild_nothing_is_a_command() -> None:
    frame = read_frame(message(guild_id=GUILD), 0.0, OWNERS)
    assert not frame.is_owner_command
    assert decide(frame, TABLE, 0.0) == sandbox_destination(SANDBOX)


@pytest.mark.parametrize("event_type", ["MESSAGE_UPDATE", "MESSAGE_DELETE", "TYPING_START", "BRAND_NEW"])
def test_only_a_new_message_is_a_command(event_type: str) -> None:
    raw = message().replace(b"MESSAGE_CREATE", event_type.encode())
    assert decide(read_frame(raw, 0.0, OWNERS), TABLE, 0.0) is PRODUCTION


@pytest.mark.parametrize(
    "odd",
    [
        {"author": None},
        {"author": {}},
        {"author": {"id": 813625648685547541}},
        {"author": [OWNER]},
        {"content": None},
        {"content": 7},
        {"guild_id": {}},
    ],
    ids=str,
)
def test_a_message_of_an_odd_shape_is_no_command(odd: dict[str, Any]) -> None:
    data = {"content": "list", "author": {"id": OWNER}, **odd}
    raw = json.dumps({"t": "MESSAGE_CREATE", "s": 1, "op": 0, "d": data}).encode()
    assert not read_frame(raw, 0.0, OWNERS).is_owner_command


def test_a_frame_that_only_the_lenient_reader_takes() -> None:
    # A lone surrogate, which the strict decoder refuses.
    raw = message("list", nonce="@@").replace(b"@@", rb"\ud800")
    assert read_frame(raw, 0.0, OWNERS).is_owner_command
    assert not read_frame(
        message("hello", nonce="@@").replace(b"@@", rb"\ud800"), 0.0, OWNERS
    ).is_owner_command


def test_the_routes_of_a_table() -> None:
    assert TABLE.routes(999.0) == {GUILD: Route(SANDBOX, 1000.0)}
    assert TABLE.routes(1000.0) == {}
