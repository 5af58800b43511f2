"""The table of keys against what the server itself knows about its commands."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from sandbox_core.redis.key_table import (
    BLOCKING,
    CHANNELS,
    KEYS,
    LOCK_SCRIPTS,
    PATTERNS,
    NotConfinable,
    at,
    command_name,
)

from .commands import SAMPLES

TABLE = set(KEYS) | set(CHANNELS) | PATTERNS
SCRIPT = next(iter(LOCK_SCRIPTS))

REFUSED = {
    "EVAL": "the script can make up key names",
    "EVALSHA_RO": "the script can make up key names",
    "EVAL_RO": "the script can make up key names",
    "FCALL": "the function can make up key names",
    "FCALL_RO": "the function can make up key names",
    "MIGRATE": "moves keys to another server",
    "MOVE": "moves a key to another database",
    "PFDEBUG": "for the server's own tests",
    "RESTORE-ASKING": "the server's own, between the nodes of a cluster",
    "CLUSTERSCAN": "looks at everybody's keys",
    "SSUBSCRIBE": "changes the connection; sent by `pubsub()` alone",
    "SUNSUBSCRIBE": "changes the connection; sent by `pubsub()` alone",
}
"""Commands with keys or channels that are left out on purpose."""


@pytest.fixture
async def described(redis: Redis) -> dict[str, Any]:
    """The server's own description of each command and subcommand."""
    commands: dict[str, Any] = {}
    for name, description in (await redis.command()).items():
        commands[name.upper()] = description
        for sub in description["subcommands"]:
            # The parser leaves subcommands as the server sent them: name, arity, flags, first key, …
            commands[sub[0].upper().replace("|", " ")] = {"flags": sub[2], "first_key_pos": sub[3]}
    return commands


async def test_every_command_with_keys_is_confined_or_left_out_on_purpose(described: dict[str, Any]) -> None:
    with_keys = {
        name
        for name, description in described.items()
        if description["first_key_pos"] or "movablekeys" in description["flags"]
    }
    assert with_keys - TABLE == set(REFUSED)
    assert TABLE - set(described) == set()


async def test_the_blocking_commands_are_the_servers(described: dict[str, Any]) -> None:
    assert {name for name in TABLE if "blocking" in described[name]["flags"]} == BLOCKING


def test_every_command_of_the_table_has_a_sample() -> None:
    # Scripts and DISCARD, which is an error outside a transaction, have tests of their own.
    assert TABLE - {command_name(words) for words in SAMPLES} == {"EVALSHA", "SCRIPT LOAD", "DISCARD"}


@pytest.mark.parametrize(
    "words",
    [words for words in SAMPLES if command_name(words) in KEYS]
    + [("EVALSHA", SCRIPT, "2", "a", "b", "token")],
    ids=" ".join,
)
async def test_the_keys_are_those_the_server_sees(redis: Redis, words: tuple[str, ...]) -> None:
    found = [words[position] for position in KEYS[command_name(words)](words)]
    if not found:
        with pytest.raises(ResponseError, match="no key arguments"):
            await redis.command_getkeys(*words)
        return
    assert sorted(found) == sorted(await redis.command_getkeys(*words))


@pytest.mark.parametrize("script", LOCK_SCRIPTS.values())
def test_a_locks_script_touches_the_key_it_is_given(script: str) -> None:
    used = re.findall(r"redis\.\w+\([^,]*,\s*([^,)]+)", script)
    assert used
    assert set(used) == {"KEYS[1]"}
    assert len(used) == len(re.findall(r"\bredis\b", script))


@pytest.mark.parametrize(
    "line",
    [
        "ZUNION x a",
        "ZUNION",
        "ZUNION -1 a",
        "ZUNION 3 a b",
        "MSETEX 2 a 1",
        "XREAD COUNT 1 KEYS a 0",
        "XREADGROUP STREAMS a 0",
        "XREADGROUP",
        "SORT a BY other:* GET #",
        "SORT a GET other:*",
        "SORT a GET other",
        "SORT a FROM b",
        "COPY a b DB 2",
        "EVALSHA 0000 1 a",
        "EVALSHA",
    ],
)
def test_words_whose_keys_are_not_certain(line: str) -> None:
    words = line.split()
    with pytest.raises(NotConfinable):
        KEYS[command_name(words)](words)


def test_words_that_are_missing_are_no_keys() -> None:
    """The server refuses what is left of a command; nothing is invented for it."""
    for sample in SAMPLES:
        for words in (sample[:end] for end in range(1, len(sample))):
            with contextlib.suppress(NotConfinable):
                found = KEYS.get(command_name(words), at())(words)
                assert all(position < len(words) for position in found), words
