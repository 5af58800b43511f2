"""Whatever a confined client is told to send, other keys stay as they are and unseen."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sandbox_core.errors import InvalidInput
from sandbox_core.redis.client import create_client
from sandbox_core.redis.confined import create_confined_client
from sandbox_core.redis.key_table import BLOCKING, command_name

from .commands import REFUSED, SAMPLES, SEED_COMMANDS
from .conftest import OTHER_PREFIX, PREFIX

SECRET = "classified"
FOREIGN = {f"{prefix}{name}" for prefix in ("", OTHER_PREFIX) for name in ("text", "foreign")} | {
    # Their names can't be guessed: who names them has seen them.
    f"{SECRET}:1",
    f"{PREFIX.removesuffix(':')}{SECRET}",
    f"{OTHER_PREFIX}{SECRET}",
}
SEEDED_ALSO = ("hash", "list", "set1", "zset1", "stream")
"""Foreign keys of other types, under the names that the samples use."""

NAMES = [
    "text",
    "fresh",
    "foreign",
    f"{OTHER_PREFIX}text",
    f"{OTHER_PREFIX}foreign",
    f"../{OTHER_PREFIX}text",
]
OPTIONS = [
    "STORE",
    "STOREDIST",
    "BY",
    "GET",
    "MATCH",
    "STREAMS",
    "GROUP",
    "DB",
    "COUNT",
    "LIMIT",
    "BLOCK",
    "get",
]
PATTERNS = ["*", "**", "?", "[a-z]*", "\\*", "..", "", " ", "\n"]
NUMBERS = ["0", "1", "2", "-1", "0-0", "99", "$", ">", "#", "-", "+"]
# In Python its upper case is STORE, on the server it is not.
WORDS = [*NAMES, *OPTIONS, *PATTERNS, *NUMBERS, *SEEDED_ALSO, "store", "\u017ftore"]
LINES = [*SAMPLES, *(tuple(line.split()) for line in REFUSED)]

BY_CHANCE = settings(
    # `border` is seeded anew for each example.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    # A dozen commands can be read as they are; making them fewer takes minutes on a real server.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)

Line = list[str | bytes]


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """A sample with some words changed, put in, left out or doubled."""
    line: Line = list(draw(st.sampled_from(LINES)))
    # Most changes make nonsense of a command, so some have none or one.
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 4]))):
        position = draw(st.integers(0, len(line) - 1))
        change = draw(st.sampled_from(["replace", "insert", "leave out", "double", "bytes", "command"]))
        word = line[position]
        if change == "replace" and position:
            line[position] = draw(st.sampled_from(WORDS))
        elif change == "insert":
            line.insert(position + 1, draw(st.sampled_from(WORDS)))
        elif change == "leave out" and len(line) > 1:
            del line[position]
        elif change == "double":
            line.insert(position, word)
        elif change == "bytes" and isinstance(word, str):
            line[position] = word.encode()
        elif change == "command":
            line[0] = draw(st.sampled_from(LINES))[0]
    return [" ".join(map(str, line))] if draw(st.integers(0, 9)) == 9 else line


@dataclass
class Border:
    """A confined client, and a plain one that sees both sides."""

    confined: Redis
    redis: Redis

    async def seed(self) -> None:
        await self.redis.flushdb()
        async with self.redis.pipeline(transaction=False) as pipeline:
            for words in SEED_COMMANDS:
                if words[1] in SEEDED_ALSO:
                    pipeline.execute_command(*words)
                    pipeline.execute_command(words[0], OTHER_PREFIX + words[1], *words[2:])
            for name in sorted(FOREIGN):
                pipeline.set(name, SECRET * 100, ex=4_000_000)
            await pipeline.execute()
        async with self.confined.pipeline(transaction=False) as pipeline:
            for words in SEED_COMMANDS:
                pipeline.execute_command(*words)
            await pipeline.execute()

    async def foreign(self) -> dict[Any, Any]:
        """Everything outside the prefix, and how much there is in the other databases."""
        found: dict[Any, Any] = {}
        for key in await self.redis.keys():
            if not key.startswith(PREFIX):
                found[key] = (await self.redis.dump(key), await self.redis.pexpiretime(key))
        mine = f"db{self.redis.connection_pool.connection_kwargs['db']}"
        keyspace = await self.redis.info("keyspace")
        found["others"] = {name: facts["keys"] for name, facts in keyspace.items() if name != mine}
        return found

    async def send(self, line: Line, way: str) -> Any:
        """The reply, or the error's text."""
        try:
            if way == "alone":
                return await self.confined.execute_command(*line)
            async with self.confined.pipeline(transaction=way == "transaction") as pipeline:
                queued = pipeline.execute_command(*line)
                # WATCH is sent at once.
                return await (queued if inspect.iscoroutine(queued) else pipeline.execute())
        except (InvalidInput, RedisError, UnicodeError) as error:
            return f"{type(error).__name__}: {error}"


@pytest.fixture
async def border(redis_url: str) -> AsyncIterator[Border]:
    async with contextlib.AsyncExitStack() as clients:
        confined = create_confined_client(redis_url, PREFIX, client_name="test")
        clients.push_async_callback(confined.aclose)
        redis = create_client(redis_url)
        clients.push_async_callback(redis.aclose)
        # What earlier tests left in other databases would expire while keys there are counted.
        await redis.flushall()
        yield Border(confined, redis)


def waits(line: Line) -> bool:
    first = line[0] if isinstance(line[0], str) else line[0].decode()
    return not first.split() or command_name([*first.split(), *line[1:]]) in BLOCKING


@settings(BY_CHANCE, max_examples=60)
@given(
    st.lists(
        st.tuples(lines(), st.sampled_from(["alone", "transaction", "pipeline"])), min_size=6, max_size=16
    )
)
async def test_random_commands(border: Border, told: list[tuple[Line, str]]) -> None:
    await border.seed()
    before = await border.foreign()
    replies = [
        # Inside a transaction nothing waits.
        await border.send(line, "transaction" if waits(line) else way)
        for line, way in told
    ]
    assert await border.foreign() == before
    assert SECRET not in repr(replies)


UNSTEADY = {
    *("TIME", "SPOP", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER", "SCAN", "SSCAN", "HSCAN", "ZSCAN", "INFO"),
    *("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "DUMP"),
    *("XADD", "XINFO", "XPENDING", "XCLAIM", "XAUTOCLAIM", "OBJECT", "MEMORY", "PUBSUB", "WAIT", "WAITAOF"),
}
"""Commands whose replies differ from run to run, whoever else has keys there."""


def is_steady(line: Line) -> bool:
    first = line[0] if isinstance(line[0], str) else line[0].decode()
    return bool(first.split()) and first.split()[0].upper() not in UNSTEADY


@settings(BY_CHANCE, max_examples=60)
@given(st.lists(lines().filter(is_steady), min_size=4, max_size=12))
async def test_replies_do_not_depend_on_other_keys(border: Border, told: list[Line]) -> None:
    """Not even a key's existence, length or type can be told."""
    await border.seed()
    among_others = [await border.send(line, "transaction") for line in told]
    await border.seed()
    for key in await border.redis.keys():
        if not key.startswith(PREFIX):
            await border.redis.delete(key)
    assert [await border.send(line, "transaction") for line in told] == among_others
