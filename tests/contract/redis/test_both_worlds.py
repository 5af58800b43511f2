"""The same commands with and without a prefix: the same replies, the same keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import LockNotOwnedError, ResponseError, WatchError

from sandbox_core.redis.confined import create_confined_client
from sandbox_core.redis.key_table import BLOCKING, command_name

from .commands import DUMP_OF_TEXT, SAMPLES, SEED_COMMANDS
from .conftest import PREFIX, World

VARYING = {"TIME", "SPOP", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER", "MEMORY USAGE", "OBJECT FREQ"}
"""Their replies differ from call to call, or with the length of the key; only their effects are compared."""
CLOCKED = {"XINFO CONSUMERS", "PTTL", "HPTTL", "OBJECT IDLETIME"}
"""Their replies depend on when they are asked."""


async def seeded(client: Redis, redis: Redis) -> None:
    await redis.flushdb()
    pipeline = client.pipeline(transaction=False)
    for words in SEED_COMMANDS:
        pipeline.execute_command(*words)
    await pipeline.execute()


async def filled_in(words: tuple[str, ...], client: Redis) -> list[Any]:
    return [await client.dump("text") if word == DUMP_OF_TEXT else word for word in words]


async def reply_to(client: Redis, words: list[Any]) -> Any:
    try:
        reply = await client.execute_command(*words)
    except ResponseError as error:
        return str(error)
    # SCAN gives the keys in the order of their hashes.
    return (reply[0], sorted(reply[1])) if command_name(words) == "SCAN" else reply


async def everything(redis: Redis, prefix: str) -> dict[str, Any]:
    """Every key without the prefix, with its type and content. A key outside the prefix keeps its name."""
    keys = await redis.keys()
    kinds = redis.pipeline(transaction=False)
    for key in keys:
        kinds.type(key)
    contents = redis.pipeline(transaction=False)
    read = {
        "string": contents.get,
        "list": lambda key: contents.lrange(key, 0, -1),
        "set": contents.smembers,
        "zset": lambda key: contents.zrange(key, 0, -1, withscores=True),
        "hash": contents.hgetall,
        "stream": contents.xrange,
    }
    found = await kinds.execute()
    for key, kind in zip(keys, found, strict=True):
        read[kind](key)
        contents.ttl(key)
    answers = await contents.execute()
    return {
        key.removeprefix(prefix): (kind, content, left > 0)
        for key, kind, content, left in zip(keys, found, answers[::2], answers[1::2], strict=True)
    }


@pytest.mark.parametrize("words", SAMPLES, ids=" ".join)
async def test_the_same_reply_and_the_same_keys(
    redis: Redis, confined: Redis, production: Redis, words: tuple[str, ...]
) -> None:
    name = command_name(words)
    await seeded(production, redis)
    expected = await reply_to(production, await filled_in(words, production))
    expected_keys = await everything(redis, "")
    await seeded(confined, redis)
    reply = await reply_to(confined, await filled_in(words, confined))
    keys = await everything(redis, PREFIX)
    if name not in VARYING | CLOCKED:
        assert reply == expected
    assert PREFIX not in repr(reply)
    if name not in {"SPOP"}:
        assert keys == expected_keys
    assert all(key.startswith(PREFIX) for key in await redis.keys())


@pytest.mark.parametrize(
    "words", [words for words in SAMPLES if command_name(words) not in BLOCKING | {"WATCH"}], ids=" ".join
)
async def test_in_a_transaction_and_in_a_pipeline_as_alone(
    redis: Redis, confined: Redis, words: tuple[str, ...]
) -> None:
    name = command_name(words)
    replies, keys = [], []
    for transaction in (None, True, False):
        await seeded(confined, redis)
        sent = await filled_in(words, confined)
        if transaction is None:
            replies.append(await reply_to(confined, sent))
        else:
            async with confined.pipeline(transaction=transaction) as pipeline:
                pipeline.execute_command(*sent)
                (reply,) = await pipeline.execute(raise_on_error=False)
            if name == "SCAN":
                reply = (reply[0], sorted(reply[1]))
            replies.append(str(reply) if isinstance(reply, ResponseError) else reply)
        keys.append(await everything(redis, PREFIX))
    if name not in VARYING | CLOCKED:
        assert replies == [replies[0]] * 3
    if name not in {"SPOP"}:
        assert keys == [keys[0]] * 3


async def test_the_ordinary_methods(world: World) -> None:
    client = world.client
    await client.mset({"xp:1": 3, b"xp:2": 4, 17: "a number as a key"})
    assert await client.mget("xp:1", b"xp:2", 17) == ["3", "4", "a number as a key"]
    assert [key async for key in client.scan_iter(match="xp:*")] in (["xp:1", "xp:2"], ["xp:2", "xp:1"])
    assert sorted([key async for key in client.scan_iter()]) == ["17", "xp:1", "xp:2"]
    await client.zadd("board", {"ada": 2, "eve": 1})
    assert await client.bzpopmin(["none", "board"], timeout=1) == ("board", "eve", 1.0)
    await client.xadd("log", {"k": "v"}, id="1-1")
    assert await client.xread({"log": "0"}) == [["log", [("1-1", {"k": "v"})]]]
    assert await client.blpop(["none", "nothing"], timeout=0.01) is None
    assert await client.unlink("xp:1", "xp:2", "17", "board", "log") == 5


async def test_a_transaction_that_watches(world: World) -> None:
    client = world.client
    await client.set("count", 1)

    async def add_one(pipeline: Any) -> None:
        current = int(await pipeline.get("count"))
        pipeline.multi()
        pipeline.set("count", current + 1)
        pipeline.get("count")

    assert await client.transaction(add_one, "count") == [True, "2"]
    async with client.pipeline() as pipeline:
        await pipeline.watch("count")
        await client.set("count", 9)
        pipeline.multi()
        pipeline.set("count", 0)
        with pytest.raises(WatchError):
            await pipeline.execute()
    assert await client.get("count") == "9"


async def test_a_lock(world: World, redis: Redis) -> None:
    client = world.client
    # The server may have forgotten the scripts: they are sent again.
    await redis.script_flush()
    lock = client.lock("job", timeout=10)
    async with lock:
        assert await redis.keys() == [f"{world.prefix}job"]
        assert not await client.lock("job", blocking=False).acquire()
        assert await lock.extend(10)
        assert await lock.reacquire()
    assert await redis.keys() == []
    lost = client.lock("job", timeout=10)
    await lost.acquire()
    await client.delete("job")
    with pytest.raises(LockNotOwnedError):
        await lost.release()


async def test_a_client_with_one_connection(confined: Redis, redis: Redis) -> None:
    async with confined.client() as single:
        await single.set("a", 1)
        async with single.pipeline() as pipeline:
            pipeline.pipeline().set("never", "sent")
            assert await pipeline.incr("a").get("a").execute() == [2, "2"]
    assert await redis.keys() == [f"{PREFIX}a"]
    assert await confined.get("a") == "2"


async def test_a_blocking_command_outlasts_the_time_limit(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_core.redis.client.TIMEOUT", 0.05)
    client = create_confined_client(redis_url, PREFIX, client_name="patient")
    try:
        # One that waits in vain for four times the limit, and one that is served.
        assert await client.blpop(["jobs"], timeout=0.2) is None
        waiting = asyncio.create_task(client.blpop(["jobs"], timeout=0))
        while not [c for c in await redis.client_list() if c["name"] == "patient" and "b" in c["flags"]]:
            await asyncio.sleep(0.01)
        await redis.rpush(f"{PREFIX}jobs", "one")
        assert await asyncio.wait_for(waiting, 60) == ("jobs", "one")
    finally:
        await client.aclose()


async def test_the_words_may_be_joined_or_bytes_or_in_lower_case(confined: Redis, redis: Redis) -> None:
    assert await confined.execute_command("SET joined ä") in {True, "OK"}
    await confined.execute_command(b"SET", b"bytes", b"\xff")
    await confined.execute_command("set", memoryview(b"view"), 1)
    await confined.execute_command("xgroup create", "stream", "group", "$", "mkstream")
    assert sorted(await redis.keys()) == [PREFIX + name for name in ("bytes", "joined", "stream", "view")]
    assert await redis.get(f"{PREFIX}joined") == "ä"
    assert await confined.execute_command("XREADGROUP GROUP group me STREAMS stream >") in (None, [], {})
    assert (await confined.execute_command("scan", 0, "match", "b*", "count", 1000))[1] == ["bytes"]


async def test_replies_that_are_not_decoded(world: World) -> None:
    await world.client.set("a", 1)
    assert await world.client.execute_command("SCAN", 0, NEVER_DECODE=True) == (0, [b"a"])
