from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from redis import exceptions as rd
from redis.asyncio import Redis

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable, StillWritten
from sandbox_core.models import Sandbox
from sandbox_core.namespaces import PartState, RedisNamespace
from sandbox_core.namespaces import redis as module
from sandbox_core.redis.client import create_client
from sandbox_core.redis.errors import translating
from sandbox_core.subjects import redis_prefix, route_key

ROUTE = route_key("100000000000000001")


@pytest.fixture
def namespace(redis: Redis) -> RedisNamespace:
    return RedisNamespace(redis)


async def test_only_the_sandboxs_own_keys_go(
    namespace: RedisNamespace, redis: Redis, new_sandbox: Callable[..., Sandbox]
) -> None:
    mine, other = new_sandbox(), new_sandbox()
    await namespace.provision(mine)
    await redis.set(ROUTE, str(mine.id))
    await redis.set(redis_prefix(other.id) + "a", 1)
    await redis.set(f"x{redis_prefix(mine.id)}a", 1)
    for number in range(1_203):
        await redis.set(f"{redis_prefix(mine.id)}{number}", 1)
    await redis.hset(redis_prefix(mine.id) + "*[a-z]?", "field", "value")
    # Not UTF-8: another client's business, but ours to remove.
    await redis.execute_command("SET", redis_prefix(mine.id).encode() + b"\xff\xfe", b"\x00")

    assert await namespace.list_ids() == {str(mine.id), str(other.id)}
    await namespace.drop(mine)
    await namespace.drop(mine)
    assert sorted(await redis.keys()) == sorted(
        [ROUTE, redis_prefix(other.id) + "a", f"x{redis_prefix(mine.id)}a"]
    )
    assert await namespace.list_ids() == {str(other.id)}


@pytest.mark.parametrize("command", ["SCAN", "UNLINK"])
async def test_a_cancellation_that_the_driver_loses_ends_the_removal(
    namespace: RedisNamespace,
    redis: Redis,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """As `asyncio.wait_for` loses one that comes just as the request is written."""
    await redis.mset({f"{redis_prefix(sandbox.id)}{number}": 1 for number in range(1_500)})
    commands: list[str] = []
    real = Redis.execute_command

    async def cancelled_in_the_middle(self: Redis, *arguments: object, **options: object) -> object:
        answer = await real(self, *arguments, **options)
        commands.append(str(arguments[0]))
        if arguments[0] == command:
            removal.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Redis, "execute_command", cancelled_in_the_middle)
        removal = asyncio.create_task(namespace.delete_keys(sandbox.id))
        with pytest.raises(asyncio.CancelledError):
            await removal
    assert commands[-1] == command
    assert commands.count(command) == 1
    # A removal within a task that was cancelled before, as undoing a creation is, goes on.
    assert await _in_a_cancelled_task(namespace, sandbox) > 0
    assert await redis.keys(redis_prefix(sandbox.id) + "*") == []


async def _in_a_cancelled_task(namespace: RedisNamespace, sandbox: Sandbox) -> int:
    async def undo() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await namespace.delete_keys(sandbox.id)
        raise AssertionError("nobody sets that event")

    task = asyncio.create_task(undo())
    await asyncio.sleep(0)
    task.cancel()
    return await task


async def test_a_time_limit_around_a_removal_holds(
    namespace: RedisNamespace, redis: Redis, sandbox: Sandbox
) -> None:
    """Many cancellations in a row, at whatever point of a real request each arrives."""

    async def removal() -> None:
        while True:
            with suppress(StillWritten):
                await namespace.delete_keys(sandbox.id)

    async with _writing(redis, sandbox):
        for turn in range(20):
            removing = asyncio.create_task(removal())
            for _ in range(20 + 7 * turn):
                await asyncio.sleep(0)
            removing.cancel()
            done, _ = await asyncio.wait({removing}, timeout=60)
            assert done
            assert removing.cancelled()


@asynccontextmanager
async def _writing(redis: Redis, sandbox: Sandbox) -> AsyncIterator[None]:
    """A worker that writes keys of the sandbox all the time, as fast as it can."""
    stop = False

    async def worker() -> None:
        number = 0
        while not stop:
            number += 1
            await redis.mset({f"{redis_prefix(sandbox.id)}{number}-{part}": 1 for part in range(200)})

    writing = asyncio.create_task(worker())
    try:
        yield
    finally:
        stop = True
        await writing


@pytest.mark.parametrize("rounds", [4, 5])
async def test_keys_that_appear_in_every_round(
    namespace: RedisNamespace,
    redis: Redis,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    rounds: int,
) -> None:
    """Up to the limit they are removed; a worker that goes on writing is named as what it is."""
    key = redis_prefix(sandbox.id) + "again"
    await redis.set(key, 1)
    real, unlinked = Redis.unlink, 0

    async def written_again(self: Redis, *names: str) -> int:
        nonlocal unlinked
        gone: int = await real(self, *names)
        unlinked += 1
        if unlinked < rounds:
            await redis.set(key, 1)
        return gone

    monkeypatch.setattr(Redis, "unlink", written_again)
    if rounds == 4:
        assert await namespace.delete_keys(sandbox.id) == 4
    else:
        with pytest.raises(StillWritten) as failed:
            await namespace.drop(sandbox)
        assert (failed.value.dependency, failed.value.what) == ("Redis", "keys")
    assert unlinked == rounds


@pytest.mark.parametrize(("per_scan", "given_up"), [(500, True), (2, False)])
async def test_a_fast_worker_in_a_big_keyspace_is_noticed_before_the_end_of_the_first_look(
    namespace: RedisNamespace,
    redis: Redis,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    per_scan: int,
    given_up: bool,
) -> None:
    """There the keyspace grows ahead of the SCAN, and the look would take for ever; a slow one is outrun."""
    prefix = redis_prefix(sandbox.id)
    for start in range(0, 100_000, 10_000):
        await redis.mset({f"other:{start + number}": 1 for number in range(10_000)})
    await redis.mset({f"{prefix}before:{number}": 1 for number in range(5_000)})
    real, scans, looks, written, writing = Redis.scan, 0, 0, 0, True

    async def while_a_worker_writes(self: Redis, *arguments: object, **options: object) -> object:
        nonlocal scans, looks, written
        scans += 1
        looks += arguments[0] == 0
        if writing:
            await redis.mset({f"{prefix}{written + number}": 1 for number in range(per_scan)})
            written += per_scan
        return await real(self, *arguments, **options)

    monkeypatch.setattr(Redis, "scan", while_a_worker_writes)
    if given_up:
        with pytest.raises(StillWritten):
            await namespace.delete_keys(sandbox.id)
        assert scans < 300
    else:
        with pytest.raises(StillWritten):
            # Few keys, but some at each of the looks.
            await namespace.delete_keys(sandbox.id)
        assert looks >= 5
    writing = False
    assert await namespace.delete_keys(sandbox.id) > 0
    assert await redis.keys(prefix + "*") == []


@pytest.mark.parametrize("key", ["sandbox:route:100000000000000001", "sandbox:notes", "sandbox:3f2a9c01:x"])
async def test_other_keys_below_the_same_word_are_nobodys(
    namespace: RedisNamespace, redis: Redis, key: str
) -> None:
    await redis.set(key, 1)
    assert await namespace.list_ids() == set()


async def test_health(
    namespace: RedisNamespace, redis: Redis, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = await namespace.check(sandbox)
    assert (empty.store, empty.state, empty.detail) == ("Redis", PartState.HEALTHY, "0 keys")
    for number in range(3):
        await redis.set(f"{redis_prefix(sandbox.id)}{number}", 1)
    full = await namespace.check(sandbox)
    assert full.facts == {"prefix": redis_prefix(sandbox.id), "keys": 3}
    assert full.latency_ms > 0
    monkeypatch.setattr(module, "_COUNT_LIMIT", 2)
    assert (await namespace.check(sandbox)).detail == "2 keys or more"


async def test_redis_away(
    servers: EmbeddedServers, namespace: RedisNamespace, redis: Redis, sandbox: Sandbox
) -> None:
    await redis.ping()
    await servers.valkey.kill()
    for act in (
        namespace.provision(sandbox),
        namespace.drop(sandbox),
        namespace.check(sandbox),
        namespace.list_ids(),
    ):
        with pytest.raises(DependencyUnavailable) as away:
            await act
        assert away.value.dependency == "Redis"
        assert away.value.reason == f"connection refused at 127.0.0.1:{urlsplit(servers.redis_url).port}"
    await servers.valkey.start()
    await namespace.provision(sandbox)


async def test_text_survives_whatever_its_bytes_are(redis: Redis) -> None:
    await redis.execute_command("SET", b"k\xff", b"v\xfe")
    (key,) = await redis.keys()
    value = await redis.get(key)
    await redis.set("copy", value)
    assert await redis.execute_command("STRLEN", "copy") == 2
    assert await redis.delete(key) == 1


async def test_the_client_names_itself(redis_url: str) -> None:
    client = create_client(redis_url, client_name="somebody")
    assert await client.client_getname() == "somebody"
    await client.aclose()


_NO_REPLICAS = "it takes no writes: it has too few replicas (NOREPLICAS)"
_NOT_SAVED = "it takes no writes: it can't save its data (MISCONF)"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (rd.AuthenticationError("WRONGPASS secret"), "it refused the login"),
        (rd.BusyLoadingError("x"), "it is loading its data (LOADING)"),
        (rd.MaxConnectionsError("x"), "no free connection"),
        (rd.TimeoutError("x"), "no answer in time"),
        (rd.ConnectionError("Error 111 connecting to 10.0.0.1:6379"), "it can't be reached"),
        (rd.ReadOnlyError("x"), "it takes no writes: it is a replica (READONLY)"),
        (rd.OutOfMemoryError("x"), "its memory is full (OOM)"),
        (rd.NoPermissionError("x"), "its user may not do this (NOPERM)"),
        (rd.ClusterDownError("x"), "its cluster is down (CLUSTERDOWN)"),
        (rd.ResponseError("NOREPLICAS Not enough good replicas to write."), _NO_REPLICAS),
        (rd.ResponseError("MISCONF Errors writing to the AOF file"), _NOT_SAVED),
        (TimeoutError(), "no answer in time"),
        (ConnectionResetError(), "it can't be reached"),
    ],
)
def test_errors_that_mean_it_is_away(error: Exception, reason: str) -> None:
    with pytest.raises(DependencyUnavailable) as away, translating():
        raise error
    assert (away.value.dependency, away.value.problem) == ("Redis", reason)


def test_faults_stay_what_they_are() -> None:
    fault = rd.DataError("Invalid input of type: 'dict'")
    with pytest.raises(rd.DataError) as raised, translating():
        raise fault
    assert raised.value is fault


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("EVAL", "return redis.error_reply('BUSY a script runs')", "0"), "it is busy with a script (BUSY)"),
        (
            ("EVAL", "return redis.error_reply('MOVED 1 10.0.0.1:1')", "0"),
            "it is a node of a cluster, and a single server is needed",
        ),
        (("LPUSH", "text", "x"), "it reports the error WRONGTYPE"),
        (("NOCOMMAND",), "it reports an error"),
    ],
)
async def test_any_reply_that_is_an_error_is_the_servers(
    redis_url: str, words: tuple[str, ...], reason: str
) -> None:
    url = urlsplit(redis_url)
    said = f"answers at {url.hostname}:{url.port}, but {reason}"
    async with create_client(redis_url) as client:
        await client.set("text", "1")
        with pytest.raises(DependencyUnavailable) as answered, translating():
            await client.execute_command(*words)
        assert answered.value.reason == said
        with pytest.raises(DependencyUnavailable) as answered, translating():
            async with client.pipeline() as pipeline:
                await pipeline.execute_command(*words).execute()
        assert answered.value.reason == said
