"""Commands that can't be confined: refused before anything is sent, with a way out."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from sandbox_core.error_text import explain
from sandbox_core.errors import InvalidInput
from sandbox_core.redis.confinement import Confinement

from .commands import REFUSED
from .conftest import PREFIX


@pytest.mark.parametrize(("line", "way_out"), REFUSED.items(), ids=REFUSED)
async def test_refused_alone_and_queued(confined: Redis, line: str, way_out: str) -> None:
    words = line.split()
    for sent in (words, [word.encode() for word in words], [line], [words[0].lower(), *words[1:]]):
        with pytest.raises(InvalidInput) as refused:
            await confined.execute_command(*sent)
        async with confined.pipeline() as pipeline:
            with pytest.raises(InvalidInput):
                pipeline.execute_command(*sent)
            assert not pipeline.command_stack
            await pipeline.watch("a")
            with pytest.raises(InvalidInput):
                await pipeline.execute_command(*sent)
        text = explain(refused.value)
        assert text.code == "SANDBOX_007"
        assert words[0] in text.sentence
        assert way_out in text.way_out


def test_a_refusal_in_full() -> None:
    with pytest.raises(InvalidInput) as refused:
        Confinement(PREFIX).confine(("KEYS", "password:*"))
    assert str(refused.value) == (
        "SANDBOX_007 InvalidInput(Redis command, KEYS, it can't be kept inside the sandbox's keys,"
        " `redis.scan_iter(match=…)`)"
    )


async def test_everybodys_commands_are_not_shown(confined: Redis, production: Redis) -> None:
    with pytest.raises(InvalidInput):
        confined.monitor()
    async with production.monitor() as monitor:
        await production.set("a", 1)
        seen = await monitor.next_command()
        while seen["command"] != "SET a 1":
            seen = await monitor.next_command()


async def test_a_script_of_ones_own(confined: Redis, production: Redis) -> None:
    """Also one that the server knows already."""
    source = "return redis.call('get', 'production')"
    await production.set("production", "secret")
    script = production.register_script(source)
    assert await script() == "secret"
    with pytest.raises(InvalidInput):
        await script(client=confined)
    with pytest.raises(InvalidInput):
        await confined.register_script(source)()
    with pytest.raises(InvalidInput):
        await confined.eval(source, 0)
    async with confined.pipeline() as pipeline:
        with pytest.raises(InvalidInput):
            await script(client=pipeline)


async def test_a_locks_script_is_not_run_on_what_is_no_key(confined: Redis) -> None:
    sha = confined.lock("job").lua_release.sha
    with pytest.raises((InvalidInput, NoScriptError)):
        await confined.execute_command("EVALSHA", sha, -1, "job")


@pytest.mark.parametrize("prefix", ["a*", "a?", "[ab]", "a\\", "a b", "ä:", "{a}"])
def test_a_prefix_that_would_be_a_pattern(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Confinement(prefix)


@pytest.mark.parametrize("name", [None, True, object(), ["a"]])
def test_what_is_no_key(name: Any) -> None:
    with pytest.raises(InvalidInput, match="a key has to be"):
        Confinement(PREFIX).confine(("GET", name))


@pytest.mark.parametrize("args", [(), ("",), ("  ", "a"), (b"",)])
def test_what_is_no_command(args: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidInput, match="it has no name"):
        Confinement(PREFIX).confine(args)


def test_without_a_prefix_everything_passes() -> None:
    nothing = Confinement("")
    assert not nothing
    assert nothing.confine(("FLUSHALL", 1, b"x")) == ("FLUSHALL", 1, b"x")
    assert nothing.undo(("SCAN",), ["0", ["a"]]) == ["0", ["a"]]


@pytest.mark.parametrize(
    ("command", "reply", "expected"),
    [
        (("XREAD", "STREAMS"), {f"{PREFIX}log": [["1-1", {}]]}, {"log": [["1-1", {}]]}),
        (("PUBSUB", "NUMSUB"), {f"{PREFIX}news": 1}, {"news": 1}),
        (("PUBSUB NUMSUB",), [f"{PREFIX}news", 1], ["news", 1]),
        (("GET", "a"), f"{PREFIX}a", f"{PREFIX}a"),
    ],
)
def test_names_are_undone_in_every_shape_of_a_reply(
    command: tuple[str, ...], reply: Any, expected: Any
) -> None:
    """Clients and protocols differ in it. A value is left as it was stored."""
    assert Confinement(PREFIX).undo(command, reply) == expected
